//! A cursor over msgpack bytes.
//!
//! It hands out one head at a time and never recurses, so that nesting costs no
//! stack. Every length is checked against the bytes that remain before anyone
//! can reserve memory by it: a container of `n` values needs at least `n` bytes.
//! Headers need not be minimal. It does not know what a batch is.

use crate::DecodeError;

/// The deepest nesting that [`Reader::skip`] can be asked to allow.
pub(crate) const MAX_DEPTH: usize = 64;

/// The one byte of nil.
pub(crate) const NIL: u8 = 0xc0;

/// An integer of any width.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Int {
    /// Zero and above.
    Pos(u64),
    /// Below zero.
    Neg(i64),
}

/// One value: a leaf as a whole, or the head of a container.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum Value<'p> {
    Nil,
    Bool,
    Int(Int),
    Float(f64),
    Str(&'p [u8]),
    Bin(&'p [u8]),
    Ext(i8, &'p [u8]),
    /// Followed by so many values.
    Array(usize),
    /// Followed by so many pairs of values.
    Map(usize),
}

/// The cursor.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Reader<'p> {
    bytes: &'p [u8],
    at: usize,
}

// === impl Int ===

impl Int {
    /// The low 64 bits, two's complement.
    pub(crate) fn bits(self) -> u64 {
        match self {
            Self::Pos(v) => v,
            Self::Neg(v) => v as u64,
        }
    }

    /// As an unsigned 32-bit number.
    pub(crate) fn to_u32(self) -> Option<u32> {
        match self {
            Self::Pos(v) => u32::try_from(v).ok(),
            Self::Neg(_) => None,
        }
    }

    /// As 32 bits, negative ones in two's complement.
    pub(crate) fn bits32(self) -> Option<u32> {
        match self {
            Self::Pos(v) => u32::try_from(v).ok(),
            Self::Neg(v) => i32::try_from(v).ok().map(|v| v as u32),
        }
    }
}

// === impl Reader ===

impl<'p> Reader<'p> {
    pub(crate) fn new(bytes: &'p [u8]) -> Self {
        Self { bytes, at: 0 }
    }

    /// Offset of the next value.
    pub(crate) fn at(&self) -> usize {
        self.at
    }

    /// Goes to an offset seen before.
    pub(crate) fn seek(&mut self, at: usize) {
        self.at = at.min(self.bytes.len());
    }

    pub(crate) fn remaining(&self) -> usize {
        self.bytes.len() - self.at
    }

    /// What is left, for loops of their own.
    pub(crate) fn rest(&self) -> &'p [u8] {
        self.bytes.get(self.at..).unwrap_or(&[])
    }

    /// The bytes between two offsets.
    pub(crate) fn between(&self, from: usize, to: usize) -> &'p [u8] {
        self.bytes.get(from..to).unwrap_or(&[])
    }

    /// The next value's first byte.
    pub(crate) fn peek(&self) -> Option<u8> {
        self.bytes.get(self.at).copied()
    }

    fn truncated(&self) -> DecodeError {
        DecodeError::Truncated { at: self.at }
    }

    #[inline]
    fn take<const N: usize>(&mut self) -> Result<[u8; N], DecodeError> {
        let Some((head, _)) = self.rest().split_first_chunk::<N>() else {
            return Err(self.truncated());
        };
        self.at += N;
        Ok(*head)
    }

    #[inline]
    fn slice(&mut self, len: usize) -> Result<&'p [u8], DecodeError> {
        let Some(slice) = self.rest().get(..len) else {
            return Err(self.truncated());
        };
        self.at += len;
        Ok(slice)
    }

    fn len8(&mut self) -> Result<usize, DecodeError> {
        Ok(usize::from(u8::from_be_bytes(self.take()?)))
    }

    fn len16(&mut self) -> Result<usize, DecodeError> {
        Ok(usize::from(u16::from_be_bytes(self.take()?)))
    }

    fn len32(&mut self) -> Result<usize, DecodeError> {
        Ok(u32::from_be_bytes(self.take()?) as usize)
    }

    fn ext(&mut self, len: usize) -> Result<Value<'p>, DecodeError> {
        let kind = i8::from_be_bytes(self.take()?);
        Ok(Value::Ext(kind, self.slice(len)?))
    }

    fn array(&self, len: usize) -> Result<Value<'p>, DecodeError> {
        if len > self.remaining() {
            return Err(self.truncated());
        }
        Ok(Value::Array(len))
    }

    fn map(&self, len: usize) -> Result<Value<'p>, DecodeError> {
        if len > self.remaining() / 2 {
            return Err(self.truncated());
        }
        Ok(Value::Map(len))
    }

    /// The next value; for a container, its head alone.
    #[inline]
    pub(crate) fn value(&mut self) -> Result<Value<'p>, DecodeError> {
        let at = self.at;
        let [marker] = self.take()?;
        let signed = |v: i64| match u64::try_from(v) {
            Ok(v) => Value::Int(Int::Pos(v)),
            Err(_) => Value::Int(Int::Neg(v)),
        };
        let unsigned = |v: u64| Value::Int(Int::Pos(v));
        Ok(match marker {
            0x00..=0x7f => unsigned(u64::from(marker)),
            0x80..=0x8f => self.map(usize::from(marker & 0x0f))?,
            0x90..=0x9f => self.array(usize::from(marker & 0x0f))?,
            0xa0..=0xbf => Value::Str(self.slice(usize::from(marker & 0x1f))?),
            0xc0 => Value::Nil,
            0xc1 => return Err(DecodeError::InvalidMarker { at }),
            0xc2 | 0xc3 => Value::Bool,
            0xc4 => {
                let len = self.len8()?;
                Value::Bin(self.slice(len)?)
            }
            0xc5 => {
                let len = self.len16()?;
                Value::Bin(self.slice(len)?)
            }
            0xc6 => {
                let len = self.len32()?;
                Value::Bin(self.slice(len)?)
            }
            0xc7 => {
                let len = self.len8()?;
                self.ext(len)?
            }
            0xc8 => {
                let len = self.len16()?;
                self.ext(len)?
            }
            0xc9 => {
                let len = self.len32()?;
                self.ext(len)?
            }
            0xca => Value::Float(f64::from(f32::from_be_bytes(self.take()?))),
            0xcb => Value::Float(f64::from_be_bytes(self.take()?)),
            0xcc => unsigned(u64::from(u8::from_be_bytes(self.take()?))),
            0xcd => unsigned(u64::from(u16::from_be_bytes(self.take()?))),
            0xce => unsigned(u64::from(u32::from_be_bytes(self.take()?))),
            0xcf => unsigned(u64::from_be_bytes(self.take()?)),
            0xd0 => signed(i64::from(i8::from_be_bytes(self.take()?))),
            0xd1 => signed(i64::from(i16::from_be_bytes(self.take()?))),
            0xd2 => signed(i64::from(i32::from_be_bytes(self.take()?))),
            0xd3 => signed(i64::from_be_bytes(self.take()?)),
            0xd4 => self.ext(1)?,
            0xd5 => self.ext(2)?,
            0xd6 => self.ext(4)?,
            0xd7 => self.ext(8)?,
            0xd8 => self.ext(16)?,
            0xd9 => {
                let len = self.len8()?;
                Value::Str(self.slice(len)?)
            }
            0xda => {
                let len = self.len16()?;
                Value::Str(self.slice(len)?)
            }
            0xdb => {
                let len = self.len32()?;
                Value::Str(self.slice(len)?)
            }
            0xdc => {
                let len = self.len16()?;
                self.array(len)?
            }
            0xdd => {
                let len = self.len32()?;
                self.array(len)?
            }
            0xde => {
                let len = self.len16()?;
                self.map(len)?
            }
            0xdf => {
                let len = self.len32()?;
                self.map(len)?
            }
            0xe0..=0xff => signed(i64::from(marker as i8)),
        })
    }

    /// The key of a map, if it is a string; any other is read past.
    #[inline]
    pub(crate) fn key(&mut self, depth: usize) -> Result<Option<&'p [u8]>, DecodeError> {
        let rest = self.rest();
        if let Some((marker @ 0xa0..=0xbf, text)) = rest.split_first()
            && let Some(text) = text.get(..usize::from(marker & 0x1f))
        {
            self.at += 1 + text.len();
            return Ok(Some(text));
        }
        let at = self.at;
        if let Value::Str(text) = self.value()? {
            return Ok(Some(text));
        }
        self.at = at;
        self.skip(depth)?;
        Ok(None)
    }

    /// Reads past a list that holds nothing but nil, if that is what comes.
    #[inline]
    pub(crate) fn skip_nils(&mut self) -> Result<bool, DecodeError> {
        let at = self.at;
        if let Some(0x90..=0x9f | 0xdc | 0xdd) = self.peek()
            && let Value::Array(count) = self.value()?
        {
            if let Some(list) = self.rest().get(..count)
                && list.iter().all(|byte| *byte == NIL)
            {
                self.at += count;
                return Ok(true);
            }
            self.at = at;
        }
        Ok(false)
    }

    /// Reads past one value of at most `depth` levels ([`MAX_DEPTH`] at most).
    pub(crate) fn skip(&mut self, depth: usize) -> Result<(), DecodeError> {
        let start = self.at;
        let mut left = children(self.value()?);
        if left == 0 {
            return Ok(());
        }
        let depth = depth.min(MAX_DEPTH);
        // Values still to come in the containers around the current one.
        let mut outer = [0usize; MAX_DEPTH];
        let mut level = 1;
        if level > depth {
            return Err(DecodeError::TooDeep { at: start });
        }
        loop {
            while left == 0 {
                level -= 1;
                if level == 0 {
                    return Ok(());
                }
                left = outer.get(level).copied().unwrap_or(0);
            }
            left -= 1;
            let at = self.at;
            let inner = children(self.value()?);
            if inner > 0 {
                if level >= depth {
                    return Err(DecodeError::TooDeep { at });
                }
                if let Some(slot) = outer.get_mut(level) {
                    *slot = left;
                }
                level += 1;
                left = inner;
            }
        }
    }

    /// Reads past one value, however deep.
    pub(crate) fn skip_any(&mut self) -> Result<(), DecodeError> {
        let mut left = 1usize;
        while left > 0 {
            // Every value takes a byte: this also keeps the sum from overflowing.
            if left > self.remaining() {
                return Err(self.truncated());
            }
            left = left - 1 + children(self.value()?);
        }
        Ok(())
    }
}

/// Values that follow the head of a container.
#[inline]
fn children(value: Value<'_>) -> usize {
    match value {
        Value::Array(n) => n,
        Value::Map(n) => 2 * n,
        _ => 0,
    }
}
