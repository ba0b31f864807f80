//! What `penstock plugin new` writes is in the binary: new files of it count as changes.

fn main() {
    println!("cargo:rerun-if-changed=../../plugins/sdk/src");
    println!("cargo:rerun-if-changed=../../plugins/template");
}
