//! Doors for the fuzz targets into the readers of what travels between a token and the module.

use super::material::{Material, Padding, PublicPart, Wrapped};

/// Reads what `prepare` gave and emits it again; `None` if it is refused.
pub fn reread_material(bytes: &[u8]) -> Option<Vec<u8>> {
    Material::parse(bytes).ok().map(|material| material.emit())
}

/// Reads a wrapped root and emits it again, with the length of its ciphertext; `None` if it is refused.
pub fn reread_wrapped(bytes: &[u8]) -> Option<(usize, Vec<u8>)> {
    Wrapped::parse(bytes).ok().map(|wrapped| (wrapped.ciphertext.len(), wrapped.emit()))
}

/// What `prepare` gives with this public key, for each padding.
pub fn emit_material(modulus: &[u8], exponent: &[u8]) -> Vec<Vec<u8>> {
    let public = PublicPart { modulus: modulus.to_vec(), exponent: exponent.to_vec() };
    let material = |padding| Material { transport: [9; 16], padding, public: public.clone() };
    Padding::ALL.map(|padding| material(padding).emit()).to_vec()
}
