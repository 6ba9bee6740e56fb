//! The statements of the store, in what SQLite and PostgreSQL share, and the values that go in and come out.
//!
//! Whatever is SQLite's own (opening, log, migrations) stands in `file.rs` and `schema.rs`. A statement is written with
//! `?` for each value in their order, uses no function or clause that one of the two lacks, and calls columns by name.

use std::borrow::Cow;
use std::ffi::OsString;
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::{Path, PathBuf};

use akm_core::id::{AkmId, RelationshipId};
use akm_element::ElementSpec;
use akm_target::TargetUrl;
use akm_transport::{Endpoint, NamedEndpoint};
use rusqlite::types::{ToSqlOutput, ValueRef};
use rusqlite::{Connection, ToSql};

use super::StoreError;
use crate::names::{Name, Timestamp};

/// The open transaction in which statements are run.
#[derive(Clone, Copy)]
pub(super) struct Sql<'a>(&'a Connection);

impl<'a> Sql<'a> {
    pub(super) fn new(connection: &'a Connection) -> Self {
        Self(connection)
    }

    /// Runs a statement; returns how many rows it changed.
    pub(super) fn execute(self, statement: &str, values: &[Value<'_>]) -> Result<usize, StoreError> {
        Ok(self.0.prepare_cached(statement)?.execute(rusqlite::params_from_iter(values))?)
    }

    /// All rows of a query, each made into what it stands for.
    pub(super) fn all<T>(
        self,
        query: &str,
        values: &[Value<'_>],
        mut parse: impl FnMut(&Row<'_>) -> Result<T, StoreError>,
    ) -> Result<Vec<T>, StoreError> {
        let mut statement = self.0.prepare_cached(query)?;
        let mut rows = statement.query(rusqlite::params_from_iter(values))?;
        let mut all = Vec::new();
        while let Some(row) = rows.next()? {
            all.push(parse(&Row(row))?);
        }
        Ok(all)
    }

    /// The first row of a query, made into what it stands for.
    pub(super) fn first<T>(
        self,
        query: &str,
        values: &[Value<'_>],
        parse: impl FnOnce(&Row<'_>) -> Result<T, StoreError>,
    ) -> Result<Option<T>, StoreError> {
        let mut statement = self.0.prepare_cached(query)?;
        let mut rows = statement.query(rusqlite::params_from_iter(values))?;
        rows.next()?.map(|row| parse(&Row(row))).transpose()
    }

    /// Whether a query has any row.
    pub(super) fn any(self, query: &str, values: &[Value<'_>]) -> Result<bool, StoreError> {
        Ok(self.first(query, values, |_| Ok(()))?.is_some())
    }
}

/// A row of a query.
pub(super) struct Row<'a>(&'a rusqlite::Row<'a>);

impl Row<'_> {
    /// What stands in a column. Anything else than what this program writes there is damage.
    pub(super) fn get<T: Column>(&self, column: &str) -> Result<T, StoreError> {
        let value = match self.0.get_ref(column)? {
            ValueRef::Null => Some(Value::Null),
            ValueRef::Integer(number) => Some(Value::Integer(number)),
            ValueRef::Text(text) => std::str::from_utf8(text).ok().map(Value::from),
            ValueRef::Blob(bytes) => Some(Value::Bytes(bytes)),
            ValueRef::Real(_) => None,
        };
        value.and_then(T::read).ok_or_else(|| StoreError::damaged(column))
    }
}

/// A value in a statement or in a column.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Value<'a> {
    Null,
    Integer(i64),
    Text(Cow<'a, str>),
    Bytes(&'a [u8]),
}

impl ToSql for Value<'_> {
    fn to_sql(&self) -> rusqlite::Result<ToSqlOutput<'_>> {
        Ok(ToSqlOutput::Borrowed(match self {
            Self::Null => ValueRef::Null,
            Self::Integer(number) => ValueRef::Integer(*number),
            Self::Text(text) => ValueRef::Text(text.as_bytes()),
            Self::Bytes(bytes) => ValueRef::Blob(bytes),
        }))
    }
}

/// The values of a statement, in their order.
macro_rules! values {
    ($($value:expr),* $(,)?) => { &[$($crate::store::sql::Value::from($value)),*] };
}
pub(super) use values;

/// What can stand in a column.
pub(super) trait Column: Sized {
    /// `None` if this is not how it is written.
    fn read(value: Value<'_>) -> Option<Self>;
}

impl<T: Column> Column for Option<T> {
    fn read(value: Value<'_>) -> Option<Self> {
        match value {
            Value::Null => Some(None),
            value => T::read(value).map(Some),
        }
    }
}

impl<'a, T: Into<Value<'a>>> From<Option<T>> for Value<'a> {
    fn from(value: Option<T>) -> Self {
        value.map_or(Value::Null, Into::into)
    }
}

/// Whole numbers, by way of `i64`.
macro_rules! numbers {
    ($($number:ty),+) => { $(
        impl Column for $number {
            fn read(value: Value<'_>) -> Option<Self> {
                match value {
                    Value::Integer(number) => number.try_into().ok(),
                    _ => None,
                }
            }
        }
    )+ };
}
numbers!(i64, u64, u32, u16, u8);

macro_rules! small_numbers {
    ($($number:ty),+) => { $(
        impl From<$number> for Value<'_> {
            fn from(number: $number) -> Self {
                Value::Integer(number.into())
            }
        }
    )+ };
}
small_numbers!(i64, u32, u16, u8, bool);

impl Column for bool {
    fn read(value: Value<'_>) -> Option<Self> {
        match value {
            Value::Integer(number @ (0 | 1)) => Some(number == 1),
            _ => None,
        }
    }
}

impl<'a> From<&'a str> for Value<'a> {
    fn from(text: &'a str) -> Self {
        Value::Text(text.into())
    }
}

impl From<String> for Value<'_> {
    fn from(text: String) -> Self {
        Value::Text(text.into())
    }
}

impl Column for String {
    fn read(value: Value<'_>) -> Option<Self> {
        match value {
            Value::Text(text) => Some(text.into_owned()),
            _ => None,
        }
    }
}

impl<'a> From<&'a [u8]> for Value<'a> {
    fn from(bytes: &'a [u8]) -> Self {
        Value::Bytes(bytes)
    }
}

impl<'a, const N: usize> From<&'a [u8; N]> for Value<'a> {
    fn from(bytes: &'a [u8; N]) -> Self {
        Value::Bytes(bytes)
    }
}

impl Column for Vec<u8> {
    fn read(value: Value<'_>) -> Option<Self> {
        match value {
            Value::Bytes(bytes) => Some(bytes.to_vec()),
            _ => None,
        }
    }
}

impl<const N: usize> Column for [u8; N] {
    fn read(value: Value<'_>) -> Option<Self> {
        match value {
            Value::Bytes(bytes) => bytes.try_into().ok(),
            _ => None,
        }
    }
}

impl<'a> From<&'a AkmId> for Value<'a> {
    fn from(id: &'a AkmId) -> Self {
        id.as_bytes().into()
    }
}

impl Column for AkmId {
    fn read(value: Value<'_>) -> Option<Self> {
        AkmId::from_bytes(Column::read(value)?).ok()
    }
}

impl<'a> From<&'a RelationshipId> for Value<'a> {
    fn from(id: &'a RelationshipId) -> Self {
        id.as_bytes().into()
    }
}

impl Column for RelationshipId {
    fn read(value: Value<'_>) -> Option<Self> {
        RelationshipId::from_bytes(Column::read(value)?).ok()
    }
}

impl<'a> From<&'a Name> for Value<'a> {
    fn from(name: &'a Name) -> Self {
        name.as_str().into()
    }
}

impl Column for Name {
    fn read(value: Value<'_>) -> Option<Self> {
        String::read(value)?.parse().ok()
    }
}

/// What stands in a column as its own text.
macro_rules! texts {
    ($($kind:ty),+) => { $(
        impl From<&$kind> for Value<'_> {
            fn from(value: &$kind) -> Self {
                value.to_string().into()
            }
        }

        impl Column for $kind {
            fn read(value: Value<'_>) -> Option<Self> {
                String::read(value)?.parse().ok()
            }
        }
    )+ };
}
texts!(TargetUrl, ElementSpec, Endpoint, NamedEndpoint);

impl From<Timestamp> for Value<'_> {
    fn from(at: Timestamp) -> Self {
        Value::Integer(at.as_unix_millis())
    }
}

impl Column for Timestamp {
    fn read(value: Value<'_>) -> Option<Self> {
        i64::read(value).map(Timestamp::from_unix_millis)
    }
}

impl<'a> From<&'a Path> for Value<'a> {
    fn from(path: &'a Path) -> Self {
        path.as_os_str().as_bytes().into()
    }
}

impl Column for PathBuf {
    fn read(value: Value<'_>) -> Option<Self> {
        Vec::read(value).map(|bytes| OsString::from_vec(bytes).into())
    }
}

/// An enum whose variants stand in the store, and before the operator, as words.
macro_rules! words {
    ($(#[$doc:meta])* $name:ident { $($(#[$variant_doc:meta])* $variant:ident = $word:literal,)+ }) => {
        $(#[$doc])*
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub enum $name { $($(#[$variant_doc])* $variant,)+ }

        impl $name {
            /// The word for it, in the store and in what the operator reads.
            pub fn as_str(self) -> &'static str {
                match self { $(Self::$variant => $word,)+ }
            }
        }

        impl $crate::store::sql::Column for $name {
            fn read(value: $crate::store::sql::Value<'_>) -> Option<Self> {
                match value {
                    $($crate::store::sql::Value::Text(word) if word == $word => Some(Self::$variant),)+
                    _ => None,
                }
            }
        }

        impl From<$name> for $crate::store::sql::Value<'_> {
            fn from(word: $name) -> Self {
                word.as_str().into()
            }
        }

        impl serde::Serialize for $name {
            fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                serializer.serialize_str(self.as_str())
            }
        }

        impl std::fmt::Display for $name {
            fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.pad(self.as_str())
            }
        }
    };
}
pub(super) use words;
