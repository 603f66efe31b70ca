//! A cursor over received bytes that never reads past their end.

use std::ops::Range;

/// The rest of some received bytes.
#[derive(Clone, Copy, Debug)]
pub(super) struct Reader<'b> {
    rest: &'b [u8],
    /// Where `rest` begins in the message.
    at: usize,
}

/// More was asked for than is there.
#[derive(Clone, Copy, Debug)]
pub(super) struct End;

impl<'b> Reader<'b> {
    pub(super) const fn new(message: &'b [u8]) -> Self {
        Self {
            rest: message,
            at: 0,
        }
    }

    pub(super) const fn is_empty(&self) -> bool {
        self.rest.is_empty()
    }

    pub(super) const fn rest(&self) -> &'b [u8] {
        self.rest
    }

    /// Where in the message the rest lies.
    pub(super) const fn span(&self) -> Span {
        Span {
            start: self.at,
            end: self.at + self.rest.len(),
        }
    }

    /// The next `count` bytes, to be read on their own.
    pub(super) const fn take(&mut self, count: usize) -> Result<Self, End> {
        let Some((taken, rest)) = self.rest.split_at_checked(count) else {
            return Err(End);
        };
        let taken = Self {
            rest: taken,
            at: self.at,
        };
        self.rest = rest;
        self.at += count;
        Ok(taken)
    }

    pub(super) const fn byte(&mut self) -> Result<u8, End> {
        let Some((&byte, rest)) = self.rest.split_first() else {
            return Err(End);
        };
        self.rest = rest;
        self.at += 1;
        Ok(byte)
    }

    pub(super) const fn u16(&mut self) -> Result<u16, End> {
        let Some((&bytes, rest)) = self.rest.split_first_chunk() else {
            return Err(End);
        };
        self.rest = rest;
        self.at += 2;
        Ok(u16::from_be_bytes(bytes))
    }

    /// What stands behind its own length of one byte.
    pub(super) fn list8(&mut self) -> Result<Self, End> {
        let length = self.byte()?;
        self.take(usize::from(length))
    }

    /// What stands behind its own length of two bytes.
    pub(super) fn list16(&mut self) -> Result<Self, End> {
        let length = self.u16()?;
        self.take(usize::from(length))
    }
}

/// A place in a message.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Span {
    start: usize,
    end: usize,
}

impl Span {
    pub(super) const fn range(self) -> Range<usize> {
        self.start..self.end
    }

    /// Without its last `count` bytes, of which it has at least as many.
    pub(super) const fn shortened(self, count: usize) -> Self {
        Self {
            start: self.start,
            end: self.end - count,
        }
    }
}
