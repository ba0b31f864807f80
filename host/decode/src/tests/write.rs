//! Payloads for the tests, written through `rmp`.

use rmp::encode as e;

/// A value to be written.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum V {
    Nil,
    U(u64),
    I(i64),
    /// A signed 64-bit integer, never shortened.
    I64(i64),
    F(f64),
    S(&'static str),
    Own(String),
    B(Vec<u8>),
    Ext(i8, Vec<u8>),
    A(Vec<V>),
    M(Vec<(&'static str, V)>),
    /// A map whose header is `map16`, however few its entries.
    M16(Vec<(&'static str, V)>),
    /// Bytes as they are.
    Raw(Vec<u8>),
}

impl V {
    pub(super) fn bytes(&self) -> Vec<u8> {
        let mut out = Vec::new();
        self.write(&mut out);
        out
    }

    fn write(&self, w: &mut Vec<u8>) {
        match self {
            Self::Nil => e::write_nil(w).unwrap(),
            Self::U(v) => drop(e::write_uint(w, *v).unwrap()),
            Self::I(v) => drop(e::write_sint(w, *v).unwrap()),
            Self::I64(v) => e::write_i64(w, *v).unwrap(),
            Self::F(v) => e::write_f64(w, *v).unwrap(),
            Self::S(v) => e::write_str(w, v).unwrap(),
            Self::Own(v) => e::write_str(w, v).unwrap(),
            Self::B(v) => e::write_bin(w, v).unwrap(),
            Self::Ext(kind, v) => {
                e::write_ext_meta(w, v.len() as u32, *kind).unwrap();
                w.extend(v);
            }
            Self::A(values) => {
                e::write_array_len(w, values.len() as u32).unwrap();
                values.iter().for_each(|v| v.write(w));
            }
            Self::M(pairs) => {
                e::write_map_len(w, pairs.len() as u32).unwrap();
                pairs_to(pairs, w);
            }
            Self::M16(pairs) => {
                w.push(0xde);
                w.extend((pairs.len() as u16).to_be_bytes());
                pairs_to(pairs, w);
            }
            Self::Raw(bytes) => w.extend(bytes),
        }
    }
}

fn pairs_to(pairs: &[(&'static str, V)], w: &mut Vec<u8>) {
    for (key, value) in pairs {
        e::write_str(w, key).unwrap();
        value.write(w);
    }
}

/// A list of unsigned integers.
pub(super) fn ints(values: impl IntoIterator<Item = u64>) -> V {
    V::A(values.into_iter().map(V::U).collect())
}

/// `[1.5, events, rank]`.
pub(super) fn batch(events: Vec<V>) -> Vec<u8> {
    V::A(vec![V::F(1.5), V::A(events), V::U(0)]).bytes()
}

/// A plain map event of two blocks of two tokens.
pub(super) fn good(hash: u64) -> V {
    V::M(vec![
        ("type", V::S("BlockStored")),
        ("block_hashes", ints([hash, hash + 1])),
        ("parent_block_hash", V::Nil),
        ("token_ids", ints([hash, 2, 3, 4])),
        ("block_size", V::U(2)),
        ("lora_id", V::Nil),
    ])
}
