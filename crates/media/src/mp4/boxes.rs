//! Box headers and the walk over a container's children.

use mp4_atom::Atom;

use crate::Error;

/// A box's header.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Header {
    pub(super) kind: [u8; 4],
    /// Bytes of the header.
    pub(super) header_bytes: u64,
    /// Bytes of header and body; `None` for a box that reaches to the end of the input.
    pub(super) total_bytes: Option<u64>,
}

impl Header {
    /// Reads a header that starts at `offset` of the input; `None` if more bytes are needed.
    pub(super) fn parse(data: &[u8], offset: u64) -> Result<Option<Self>, Error> {
        let Some(head) = data.first_chunk::<8>() else {
            return Ok(None);
        };
        let [s0, s1, s2, s3, k0, k1, k2, k3] = *head;
        let kind = [k0, k1, k2, k3];
        let (header_bytes, total_bytes) = match u32::from_be_bytes([s0, s1, s2, s3]) {
            0 => (8, None),
            1 => {
                let Some(large) = data[8..].first_chunk::<8>() else {
                    return Ok(None);
                };
                (16, Some(u64::from_be_bytes(*large)))
            }
            size => (8, Some(u64::from(size))),
        };
        match total_bytes {
            Some(total) if total < header_bytes => Err(Error::mp4(
                kind,
                offset,
                format!("says it is {total} bytes long, less than its own header"),
            )),
            Some(total) if offset.checked_add(total).is_none() => {
                Err(Error::mp4(kind, offset, format!("says it is {total} bytes long")))
            }
            _ => Ok(Some(Self { kind, header_bytes, total_bytes })),
        }
    }

    /// The body's size, which must be known and at most `limit`.
    pub(super) fn bounded_body(&self, offset: u64, limit: u64) -> Result<u64, Error> {
        match self.total_bytes {
            None => Err(Error::mp4(self.kind, offset, "has no size")),
            Some(total) if total > limit => Err(Error::mp4(
                self.kind,
                offset,
                format!("says it is {total} bytes long; at most {limit} are accepted"),
            )),
            Some(total) => Ok(total - self.header_bytes),
        }
    }
}

/// A box in memory.
#[derive(Debug, Clone, Copy)]
pub(super) struct Mp4Box<'a> {
    pub(super) kind: [u8; 4],
    /// Where the box starts in the input.
    pub(super) offset: u64,
    /// Where its body starts in the input.
    body_offset: u64,
    pub(super) body: &'a [u8],
}

impl<'a> Mp4Box<'a> {
    /// A box whose body was read on its own.
    pub(super) fn new(header: &Header, offset: u64, body: &'a [u8]) -> Self {
        Self { kind: header.kind, offset, body_offset: offset + header.header_bytes, body }
    }

    /// An error about this box.
    pub(super) fn broken(&self, what: impl Into<String>) -> Error {
        Error::mp4(self.kind, self.offset, what)
    }

    /// The boxes inside, from `skip` bytes into the body.
    pub(super) fn children(&self, skip: usize) -> Children<'a> {
        Children {
            parent: *self,
            rest: self.body.get(skip..).unwrap_or_default(),
            offset: self.body_offset + skip as u64,
        }
    }

    /// The first child of a kind, if there is one.
    pub(super) fn find(&self, kind: &[u8; 4]) -> Result<Option<Mp4Box<'a>>, Error> {
        self.find_after(0, kind)
    }

    /// The first child of a kind among those from `skip` bytes into the body.
    pub(super) fn find_after(
        &self,
        skip: usize,
        kind: &[u8; 4],
    ) -> Result<Option<Mp4Box<'a>>, Error> {
        for child in self.children(skip) {
            let child = child?;
            if child.kind == *kind {
                return Ok(Some(child));
            }
        }
        Ok(None)
    }

    /// The first child of a kind, which must be there.
    pub(super) fn require(&self, kind: &[u8; 4]) -> Result<Mp4Box<'a>, Error> {
        self.find(kind)?
            .ok_or_else(|| self.broken(format!("has no `{}` inside", kind.escape_ascii())))
    }

    /// Reads the body as a leaf box.
    pub(super) fn decode<T: Atom>(&self) -> Result<T, Error> {
        let mut body = self.body;
        T::decode_body(&mut body).map_err(|error| self.broken(error.to_string()))
    }
}

/// The walk over a container's children.
pub(super) struct Children<'a> {
    parent: Mp4Box<'a>,
    rest: &'a [u8],
    offset: u64,
}

impl<'a> Iterator for Children<'a> {
    type Item = Result<Mp4Box<'a>, Error>;

    fn next(&mut self) -> Option<Self::Item> {
        // Fewer bytes than a header are padding: QuickTime ends containers with four zeros.
        if self.rest.len() < 8 {
            return None;
        }
        let child = self.parse();
        if child.is_err() {
            self.rest = &[];
        }
        Some(child)
    }
}

impl<'a> Children<'a> {
    fn parse(&mut self) -> Result<Mp4Box<'a>, Error> {
        let cut_off = |kind| Error::mp4(kind, self.offset, "is cut off by the end of its parent");
        let header = Header::parse(self.rest, self.offset)?.ok_or_else(|| cut_off(*b"????"))?;
        let total = match header.total_bytes {
            None => self.rest.len(),
            Some(total) => usize::try_from(total).unwrap_or(usize::MAX),
        };
        let (whole, rest) = self.rest.split_at_checked(total).ok_or_else(|| {
            Error::mp4(
                header.kind,
                self.offset,
                format!(
                    "says it is {total} bytes long, but its parent `{}` has {} left",
                    self.parent.kind.escape_ascii(),
                    self.rest.len()
                ),
            )
        })?;
        let body = whole.get(header.header_bytes as usize..).ok_or_else(|| cut_off(header.kind))?;
        let child = Mp4Box::new(&header, self.offset, body);
        self.rest = rest;
        self.offset += total as u64;
        Ok(child)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn container(body: &[u8]) -> Mp4Box<'_> {
        let header = Header { kind: *b"moov", header_bytes: 8, total_bytes: None };
        Mp4Box::new(&header, 100, body)
    }

    #[test]
    fn children_know_their_offsets() {
        let body = [&b"\0\0\0\x08free"[..], b"\0\0\0\x0amdia..", b"\0\0\0\0"].concat();
        let mdia = container(&body).require(b"mdia").unwrap();
        assert_eq!((mdia.offset, mdia.body), (116, &b".."[..]));
        assert_eq!(container(&body).children(0).count(), 2);
    }

    #[test]
    fn a_box_larger_than_its_parent_is_named() {
        let body = b"\0\0\0\x20trak....";
        let error = container(body).find(b"mdia").unwrap_err().to_string();
        assert!(error.contains("`trak` at byte 108") && error.contains("32 bytes"), "{error}");
    }

    #[test]
    fn impossible_sizes_are_refused() {
        assert!(Header::parse(b"\0\0\0\x04moov", 0).is_err());
        assert!(Header::parse(b"\0\0\0\x01moov\xff\xff\xff\xff\xff\xff\xff\xff", 10).is_err());
        assert!(Header::parse(b"\0\0\0\x01moov\0", 0).is_ok_and(|header| header.is_none()));
    }
}
