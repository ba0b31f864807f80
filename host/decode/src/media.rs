//! Engines' names of media to the five that plugins know.

use penstock_event::Medium;

/// The medium of a name, in any case. A name that no engine was known to use is
/// [`Medium::Unknown`].
pub(crate) fn medium(name: &[u8]) -> Medium {
    const NAMES: [(&[&str], Medium); 4] = [
        (&["GPU", "DEVICE"], Medium::Gpu),
        (&["CPU", "CPU_PINNED", "CPU_TIER1"], Medium::Cpu),
        (
            &["CPU_TIER2", "DISK", "NVME", "STORAGE", "FS"],
            Medium::Disk,
        ),
        (
            &["EXTERNAL", "NETWORK", "REMOTE", "SHARED", "OBJ"],
            Medium::External,
        ),
    ];
    // What nearly every event says.
    if name == b"GPU" {
        return Medium::Gpu;
    }
    NAMES
        .iter()
        .find(|(names, _)| {
            names
                .iter()
                .any(|n| name.eq_ignore_ascii_case(n.as_bytes()))
        })
        .map_or(Medium::Unknown, |(_, medium)| *medium)
}
