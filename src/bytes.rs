//! Binary layouts: a cursor that reads one from front to back, and numbers of variable length.

/// The unread rest of some bytes. A read that goes beyond the end yields `None` and leaves the
/// cursor where it is.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Cursor<'a>(pub(crate) &'a [u8]);

impl<'a> Cursor<'a> {
    /// The next `count` bytes.
    pub(crate) fn take(&mut self, count: usize) -> Option<&'a [u8]> {
        let (taken, rest) = self.0.split_at_checked(count)?;
        self.0 = rest;
        Some(taken)
    }

    fn array<const COUNT: usize>(&mut self) -> Option<[u8; COUNT]> {
        let (taken, rest) = self.0.split_first_chunk()?;
        self.0 = rest;
        Some(*taken)
    }

    /// The next byte.
    pub(crate) fn byte(&mut self) -> Option<u8> {
        self.array().map(u8::from_le_bytes)
    }

    /// A `u16`, the lowest byte first.
    pub(crate) fn u16_le(&mut self) -> Option<u16> {
        self.array().map(u16::from_le_bytes)
    }

    /// A `u32`, the lowest byte first.
    pub(crate) fn u32_le(&mut self) -> Option<u32> {
        self.array().map(u32::from_le_bytes)
    }

    /// A `u64`, the lowest byte first.
    pub(crate) fn u64_le(&mut self) -> Option<u64> {
        self.array().map(u64::from_le_bytes)
    }

    /// A `u16` in the byte order of networks.
    pub(crate) fn u16_be(&mut self) -> Option<u16> {
        self.array().map(u16::from_be_bytes)
    }

    /// A `u32` in the byte order of networks.
    pub(crate) fn u32_be(&mut self) -> Option<u32> {
        self.array().map(u32::from_be_bytes)
    }

    /// A number of variable length: 7 bits a byte, the lowest first, as [`put_varint`] and protobuf
    /// write it.
    pub(crate) fn varint(&mut self) -> Option<u64> {
        let mut rest = *self;
        let mut value = 0;
        for shift in (0..u64::BITS).step_by(7) {
            let byte = rest.byte()?;
            value |= u64::from(byte & 127) << shift;
            if byte < 128 {
                *self = rest;
                return Some(value);
            }
        }
        None
    }

    /// The next `length` bytes as text.
    pub(crate) fn text(&mut self, length: usize) -> Option<&'a str> {
        std::str::from_utf8(self.take(length)?).ok()
    }
}

/// Appends a number of variable length.
pub(crate) fn put_varint(mut value: u64, out: &mut impl Extend<u8>) {
    while value >= 128 {
        out.extend([value as u8 | 128]);
        value >>= 7;
    }
    out.extend([value as u8]);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_come_out_as_they_went_in_and_none_of_what_is_cut_off() {
        for value in [0, 1, 127, 128, 300, 1 << 35, u64::MAX - 1, u64::MAX] {
            let mut bytes = Vec::new();
            put_varint(value, &mut bytes);
            let mut cursor = Cursor(&bytes);
            assert_eq!((cursor.varint(), cursor.0.len()), (Some(value), 0));
            let mut short = Cursor(&bytes[..bytes.len() - 1]);
            assert_eq!(
                (short.varint(), short.0.len()),
                (None, bytes.len() - 1),
                "it stays where it is"
            );
        }
        assert_eq!(Cursor(&[0xff; 11]).varint(), None, "no number is that long");
    }

    #[test]
    fn both_byte_orders_and_texts_are_read_in_order() {
        let mut cursor = Cursor(b"\x01\x02\x00\x00\x02\x03\x00\x00\x00\x00\x00\x00\x04hi\xff");
        assert_eq!((cursor.byte(), cursor.u16_le(), cursor.u16_be()), (Some(1), Some(2), Some(2)));
        assert_eq!((cursor.u32_le(), cursor.u32_be()), (Some(3), Some(4)));
        assert_eq!((cursor.text(2), cursor.u16_be(), cursor.text(1)), (Some("hi"), None, None));
        assert_eq!((cursor.u64_le(), Cursor(&[1, 0, 0, 0, 0, 0, 0, 0]).u64_le()), (None, Some(1)));
    }
}
