//! Track namespaces and names ("Track Naming").

use std::sync::Arc;

use bytes::Bytes;

use crate::{ProtocolError, Reader, Writer};

/// Longest namespace plus track name, in bytes.
const MAX_FULL_NAME: usize = 4096;
/// Most fields in a namespace.
const MAX_FIELDS: usize = 32;

/// Why a namespace or name cannot exist.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum NameError {
    /// A field of no bytes.
    #[error("a namespace field is empty")]
    EmptyField,
    /// More than 32 fields.
    #[error("a namespace has at most {MAX_FIELDS} fields, this one has {0}")]
    TooManyFields(usize),
    /// More than 4,096 bytes.
    #[error("a namespace and track name have at most {MAX_FULL_NAME} bytes together, not {0}")]
    TooLong(usize),
}

impl From<NameError> for ProtocolError {
    fn from(error: NameError) -> Self {
        ProtocolError::violation(error.to_string())
    }
}

/// A track namespace: 0 to 32 non-empty fields, 4,096 bytes at most. Cheap to clone.
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Default)]
pub struct Namespace(Arc<[Bytes]>);

impl Namespace {
    /// A namespace of these fields.
    pub fn new(fields: impl IntoIterator<Item = Bytes>) -> Result<Self, NameError> {
        let fields: Arc<[Bytes]> = fields.into_iter().collect();
        if fields.len() > MAX_FIELDS {
            return Err(NameError::TooManyFields(fields.len()));
        }
        if fields.iter().any(Bytes::is_empty) {
            return Err(NameError::EmptyField);
        }
        let length = fields.iter().map(Bytes::len).sum();
        if length > MAX_FULL_NAME {
            return Err(NameError::TooLong(length));
        }
        Ok(Self(fields))
    }

    /// One field per `/`: `live/cam1` has the fields `live` and `cam1`.
    pub fn from_path(path: &str) -> Result<Self, NameError> {
        Self::new(path.split('/').map(|field| Bytes::copy_from_slice(field.as_bytes())))
    }

    /// The fields in order.
    pub fn fields(&self) -> &[Bytes] {
        &self.0
    }

    /// Whether there is no field: the prefix of every namespace.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Whether `prefix`'s fields are our first ones ("Publisher Interactions").
    pub fn has_prefix(&self, prefix: &Namespace) -> bool {
        self.0.starts_with(&prefix.0)
    }

    /// Whether one of the two is the other's prefix.
    pub fn overlaps(&self, other: &Namespace) -> bool {
        self.has_prefix(other) || other.has_prefix(self)
    }

    /// The fields after `prefix`, if it is one.
    pub fn suffix(&self, prefix: &Namespace) -> Option<Namespace> {
        self.0.strip_prefix(&*prefix.0).map(|rest| Namespace(rest.into()))
    }

    /// Our fields followed by those of `suffix`.
    pub fn join(&self, suffix: &Namespace) -> Result<Namespace, NameError> {
        Self::new(self.0.iter().chain(suffix.0.iter()).cloned())
    }

    /// Sum of the fields' lengths in bytes.
    pub fn len(&self) -> usize {
        self.0.iter().map(Bytes::len).sum()
    }

    pub(crate) fn decode(reader: &mut Reader) -> Result<Self, ProtocolError> {
        let count = reader.int("Number of Track Namespace Fields")?;
        if count > MAX_FIELDS as u64 {
            return Err(NameError::TooManyFields(count as usize).into());
        }
        let fields = (0..count)
            .map(|_| reader.prefixed(MAX_FULL_NAME, "Track Namespace Field"))
            .collect::<Result<Vec<_>, _>>()?;
        Ok(Self::new(fields)?)
    }

    pub(crate) fn encode(&self, writer: &mut Writer) {
        writer.int(self.0.len() as u64);
        for field in self.0.iter() {
            writer.prefixed(field);
        }
    }
}

/// As a path, one `/` between fields; bytes that are not UTF-8 show as U+FFFD.
impl std::fmt::Display for Namespace {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        for (index, field) in self.0.iter().enumerate() {
            if index > 0 {
                f.write_str("/")?;
            }
            f.write_str(&String::from_utf8_lossy(field))?;
        }
        Ok(())
    }
}

impl std::fmt::Debug for Namespace {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{:?}", self.to_string())
    }
}

/// A namespace and the name of a track in it: what a subscription asks for.
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct FullTrackName {
    namespace: Namespace,
    name: Bytes,
}

impl FullTrackName {
    /// A full name; the name may be empty.
    pub fn new(namespace: Namespace, name: impl Into<Bytes>) -> Result<Self, NameError> {
        let name = name.into();
        let length = namespace.len() + name.len();
        if length > MAX_FULL_NAME {
            return Err(NameError::TooLong(length));
        }
        Ok(Self { namespace, name })
    }

    /// The namespace.
    pub fn namespace(&self) -> &Namespace {
        &self.namespace
    }

    /// The name inside the namespace.
    pub fn name(&self) -> &Bytes {
        &self.name
    }

    pub(crate) fn decode(reader: &mut Reader) -> Result<Self, ProtocolError> {
        let namespace = Namespace::decode(reader)?;
        let name = reader.prefixed(MAX_FULL_NAME, "Track Name")?;
        Ok(Self::new(namespace, name)?)
    }

    pub(crate) fn encode(&self, writer: &mut Writer) {
        self.namespace.encode(writer);
        writer.prefixed(&self.name);
    }
}

/// As a path: the namespace's fields and the name with `/` between.
impl std::fmt::Display for FullTrackName {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}/{}", self.namespace, String::from_utf8_lossy(&self.name))
    }
}

impl std::fmt::Debug for FullTrackName {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{:?}", self.to_string())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn prefixes_match_by_field() {
        let foo = Namespace::from_path("foo").unwrap();
        let foobar = Namespace::from_path("foobar").unwrap();
        let foo_bar = Namespace::from_path("foo/bar").unwrap();
        assert!(foo_bar.has_prefix(&foo) && !foobar.has_prefix(&foo));
        assert!(foo_bar.has_prefix(&Namespace::default()));
        assert_eq!(foo_bar.suffix(&foo).unwrap().to_string(), "bar");
        assert_eq!(foo.join(&Namespace::from_path("bar").unwrap()).unwrap(), foo_bar);
    }

    #[test]
    fn impossible_names_are_refused() {
        assert_eq!(Namespace::from_path("a//b"), Err(NameError::EmptyField));
        let deep = "a/".repeat(32) + "a";
        assert_eq!(Namespace::from_path(&deep), Err(NameError::TooManyFields(33)));
        let long = Namespace::from_path(&"a".repeat(4000)).unwrap();
        assert!(FullTrackName::new(long, vec![0; 97]).is_err());
    }
}
