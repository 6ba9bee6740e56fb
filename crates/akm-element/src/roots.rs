//! The roots of a relationship in the files of elements: `[* [relationship, version, what is kept of it]]`, ascending.

use std::collections::BTreeMap;

use akm_core::cbor::{Malformed, WriteResult, read_array, read_bytes};
use akm_core::element::Root;
use akm_core::id::RelationshipId;
use minicbor::{Decoder, Encoder};

/// Writes all roots but the device key, each by `write`.
pub(crate) fn write_roots<T>(
    encoder: &mut Encoder<&mut Vec<u8>>,
    roots: &BTreeMap<Root, T>,
    write: impl Fn(&mut Encoder<&mut Vec<u8>>, &T) -> WriteResult,
) -> WriteResult {
    let device_keys = usize::from(roots.contains_key(&Root::Device));
    encoder.array((roots.len() - device_keys) as u64)?;
    for (root, kept) in roots {
        if let Root::Relationship { id, version } = root {
            encoder.array(3)?.bytes(id.as_bytes())?.u32(*version)?;
            write(encoder, kept)?;
        }
    }
    Ok(())
}

/// Reads at most `most` roots, each by `read`.
pub(crate) fn read_roots<T>(
    decoder: &mut Decoder<'_>,
    most: usize,
    read: impl Fn(&mut Decoder<'_>) -> Result<T, Malformed>,
) -> Result<BTreeMap<Root, T>, Malformed> {
    let mut roots = BTreeMap::new();
    for _ in 0..read_array(decoder, most)? {
        if read_array(decoder, 3)? != 3 {
            return Err(Malformed);
        }
        let id = RelationshipId::from_bytes(read_bytes(decoder)?).map_err(|_| Malformed)?;
        let version = decoder.u32()?;
        roots.insert(Root::Relationship { id, version }, read(decoder)?);
    }
    Ok(roots)
}
