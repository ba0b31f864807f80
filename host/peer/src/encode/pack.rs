use super::HashForm;
use rmp::encode;

/// A msgpack writer into memory. Writing there cannot fail, so the results of
/// `rmp`'s calls say nothing.
pub(super) struct Pack {
    bytes: Vec<u8>,
    form: HashForm,
}

/// Lengths in msgpack have 32 bits; nothing this crate makes comes near.
fn length(n: usize) -> u32 {
    u32::try_from(n).unwrap_or(u32::MAX)
}

impl Pack {
    pub fn new(form: HashForm) -> Self {
        Self {
            bytes: Vec::with_capacity(1_024),
            form,
        }
    }

    pub fn into_bytes(self) -> Vec<u8> {
        self.bytes
    }

    pub fn nil(&mut self) {
        encode::write_nil(&mut self.bytes).ok();
    }

    pub fn array(&mut self, n: usize) {
        encode::write_array_len(&mut self.bytes, length(n)).ok();
    }

    pub fn map(&mut self, n: usize) {
        encode::write_map_len(&mut self.bytes, length(n)).ok();
    }

    /// A map header of 16 bits, also where fewer would do.
    pub fn map16(&mut self, n: usize) {
        self.bytes.push(0xde);
        self.bytes.extend((n as u16).to_be_bytes());
    }

    pub fn str(&mut self, text: &str) {
        encode::write_str(&mut self.bytes, text).ok();
    }

    pub fn float(&mut self, value: f64) {
        encode::write_f64(&mut self.bytes, value).ok();
    }

    pub fn uint(&mut self, value: u64) {
        encode::write_uint(&mut self.bytes, value).ok();
    }

    pub fn int(&mut self, value: i64) {
        encode::write_sint(&mut self.bytes, value).ok();
    }

    pub fn uints(&mut self, values: &[u32]) {
        self.array(values.len());
        for value in values {
            self.uint(u64::from(*value));
        }
    }

    pub fn hash(&mut self, hash: u64) {
        match self.form {
            HashForm::Unsigned => self.uint(hash),
            HashForm::Signed => self.int(hash.cast_signed()),
            HashForm::Bytes => {
                let mut whole = [0; 32];
                for (i, part) in whole.chunks_exact_mut(8).enumerate() {
                    let word = if i == 3 {
                        hash
                    } else {
                        hash.rotate_left(16 * (i as u32 + 1))
                    };
                    part.copy_from_slice(&word.to_be_bytes());
                }
                encode::write_bin(&mut self.bytes, &whole).ok();
            }
        }
    }

    pub fn hashes(&mut self, hashes: &[u64]) {
        self.array(hashes.len());
        for hash in hashes {
            self.hash(*hash);
        }
    }

    pub fn opt_hash(&mut self, hash: Option<u64>) {
        match hash {
            Some(hash) => self.hash(hash),
            None => self.nil(),
        }
    }

    pub fn opt_str(&mut self, text: Option<&str>) {
        match text {
            Some(text) => self.str(text),
            None => self.nil(),
        }
    }

    pub fn opt_uint(&mut self, value: Option<u64>) {
        match value {
            Some(value) => self.uint(value),
            None => self.nil(),
        }
    }

    pub fn opt_int(&mut self, value: Option<i64>) {
        match value {
            Some(value) => self.int(value),
            None => self.nil(),
        }
    }

    /// A field of a map, left out when absent.
    pub fn str_field(&mut self, name: &str, text: Option<&str>) {
        if let Some(text) = text {
            self.str(name);
            self.str(text);
        }
    }

    /// A field of a map, left out when absent.
    pub fn uint_field(&mut self, name: &str, value: Option<u32>) {
        if let Some(value) = value {
            self.str(name);
            self.uint(u64::from(value));
        }
    }
}
