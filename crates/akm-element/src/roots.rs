//! The roots of a relationship in the files of elements: `[* [name, what is kept of it]]`, ascending.

use std::collections::BTreeMap;

use akm_core::cbor::{Malformed, WriteResult, read_array};
use akm_core::element::Root;
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
        if *root != Root::Device {
            encoder.array(2)?.bytes(&root.name())?;
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
        if read_array(decoder, 2)? != 2 {
            return Err(Malformed);
        }
        let root = Root::of_name(decoder.bytes()?).ok_or(Malformed)?;
        roots.insert(root, read(decoder)?);
    }
    Ok(roots)
}
