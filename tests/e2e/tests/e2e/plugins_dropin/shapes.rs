use super::in_effect;
use crate::rig::{CALM, ctl, refused};
use penstock_query::Reloaded;
use penstock_testkit::daemon::{Daemon, PATIENCE, Setup, drop_plugin};
use penstock_testkit::{plugin_file, wait};
use std::fs;
use std::time::Instant;

#[test]
fn a_directory_is_one_plugin() {
    let daemon = Setup::new().start();
    let new = daemon.path("new");
    fs::create_dir(&new).unwrap();
    fs::copy(plugin_file("prefix-index"), new.join("plugin.wasm")).unwrap();
    fs::write(new.join("plugin.toml"), CALM).unwrap();
    let at = daemon.path("plugins.d/whole");
    let since = Instant::now();
    fs::rename(&new, &at).unwrap();
    let one = in_effect(&daemon, "whole", 1, since);
    assert!(one.file.ends_with("whole/plugin.wasm"), "{}", one.file);

    let since = Instant::now();
    let toml = format!("{CALM}[config]\nmax_bytes = 2097152\n");
    fs::write(at.join("plugin.toml"), toml).unwrap();
    let two = in_effect(&daemon, "whole", 2, since);
    assert_eq!(two.digest, one.digest, "the same bytes, set up anew");

    fs::remove_file(at.join("plugin.wasm")).unwrap();
    let why = refused(&daemon, "whole", "holds no plugin.wasm");
    assert_eq!((why.generation, &*why.state), (0, "refused"), "{why:?}");
    fs::remove_dir_all(&at).unwrap();
    gone(&daemon, "whole");
}

#[test]
fn its_toml_alone_switches_it_off_and_on() {
    let daemon = Setup::new().plugin("index", "prefix-index", CALM).start();
    let home = daemon.home.path();
    let toml = home.join("plugins.d/index.toml");
    fs::write(&toml, format!("enabled = false\n{CALM}")).unwrap();
    wait::until("it is switched off", PATIENCE, || {
        let plugin = daemon.plugin("index")?;
        (plugin.state == "disabled").then_some(())
    });
    let again = reload(&daemon);
    assert_eq!(again.changed, Vec::<String>::new(), "it is off already");
    fs::write(&toml, CALM).unwrap();
    wait::until("it is on again", PATIENCE, || {
        let plugin = daemon.plugin("index")?;
        (plugin.state == "running").then_some(())
    });
    fs::remove_file(&toml).unwrap();
    let without = wait::until("its defaults", PATIENCE, || {
        daemon.plugin("index").filter(|p| p.deadline_ms == 100)
    });
    assert_eq!(without.state, "running");

    // Half of it removed is all of it removed; what is left over is named.
    fs::write(&toml, CALM).unwrap();
    fs::remove_file(home.join("plugins.d/index.wasm")).unwrap();
    let over = refused(&daemon, "index", "index.toml has no index.wasm");
    assert_eq!((over.generation, &*over.state), (0, "refused"));
    fs::remove_file(&toml).unwrap();
    gone(&daemon, "index");
}

#[test]
fn a_reload_waits_until_it_is_done() {
    // File events may be lost, and the next scan is far away.
    let daemon = Setup::new().config("scan_ms = 60000").start();
    let home = daemon.home.path();
    drop_plugin(home, "a", &plugin_file("prefix-index"), Some(CALM));
    fs::write(home.join("plugins.d/b.wasm"), "no wasm").unwrap();
    let done = reload(&daemon);
    assert!(done.refused["b"].contains("not WebAssembly"), "{done:?}");
    assert_eq!(daemon.plugin("a").unwrap().state, "running");
    // File events may have been quicker: then it is not this reload's doing.
    fs::remove_file(home.join("plugins.d/b.wasm")).unwrap();
    fs::remove_file(home.join("plugins.d/a.wasm")).unwrap();
    fs::remove_file(home.join("plugins.d/a.toml")).unwrap();
    assert_eq!(reload(&daemon).refused.len(), 0);
    assert_eq!((daemon.plugin("a"), daemon.plugin("b")), (None, None));
    let text = ctl(&daemon, &["reload"]);
    assert_eq!(text.trim(), "nothing changed", "{text}");
}

fn reload(daemon: &Daemon) -> Reloaded {
    serde_json::from_str(&ctl(daemon, &["reload", "--json"])).unwrap()
}

fn gone(daemon: &Daemon, name: &str) {
    wait::until("its end", PATIENCE, || {
        daemon.plugin(name).is_none().then_some(())
    });
}
