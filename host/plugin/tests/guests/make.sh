#!/usr/bin/env bash
# Makes the components beside this file from their text. Needs wasm-tools
# (cargo install wasm-tools). Run it when a .wat or the interface changes.
set -euo pipefail
cd "$(dirname "$0")"
here=$PWD
root=$(cd ../../../.. && pwd)
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT

# The interface, and the WASI of a compiler some patches older than the host's.
assemble() {
  rm -rf "$work/wit" && mkdir -p "$work/wit/deps"
  cp world.wit "$work/wit/"
  cp -r "$root/wit" "$work/wit/deps/plugin"
  for wit in ../../wasi/deps/*.wit filesystem.wit; do
    sed 's/0\.2\.12/0.2.6/g' "$wit" >"$work/wit/deps/$(basename "$wit")"
  done
}

make() { # NAME WORLD: NAME.wat as a component of WORLD
  wasm-tools component embed "$work/wit" --world "$2" "$1.wat" -o "$work/core.wasm"
  wasm-tools component new "$work/core.wasm" -o "$here/$1.wasm"
}

assemble
make base base
make indexer indexer
make hostile hostile
make foreign foreign
make stranger stranger

# base, against interfaces this host does not have: another version, and the
# same version in another shape.
sed 's/0\.1\.0/0.2.0/g' base.wat >"$work/future.wat"
sed -i 's/@0\.1\.0/@0.2.0/g' "$work/wit/world.wit" "$work"/wit/deps/plugin/*.wit
cp "$work/future.wat" future.wat && make future base && rm future.wat

assemble
sed -i 's/state-schema: u32/state-schema: u32,\n    extra: u32/' "$work/wit/deps/plugin/guest.wit"
cp base.wat misfit.wat && make misfit base && rm misfit.wat
