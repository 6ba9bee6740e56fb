//! Doors for the fuzz targets into the readers of what travels between a card's host and its module.

use akm_core::crypto::hash::sha256;
use akm_core::secret::Secret;

use super::applet::KEY_INFORMATION;
use super::keys::CardKeys;
use super::script::{Material, Script};

/// Reads what `prepare` gave and emits it again, with the serial number; `None` if it is refused.
pub fn reread_material(bytes: &[u8]) -> Option<(&str, Vec<u8>)> {
    Material::parse(bytes).map(|material| (material.serial, material.emit()))
}

/// Reads a script and emits it again; `None` if it is refused.
pub fn reread_script(bytes: &[u8]) -> Option<Vec<u8>> {
    Script::parse(bytes).map(|script| script.emit())
}

/// Static keys of the version 0x30.
pub fn keys() -> CardKeys {
    let key = |first| Secret::fill(|out| out.fill(first));
    CardKeys { version: 0x30, encryption: key(1), mac: key(2), data: key(3) }
}

/// What the `prepare` of a card with this serial number gives, whose keys have been used `sequence` times.
pub fn emit_material(serial: &str, sequence: [u8; 3]) -> Vec<u8> {
    let mut keys = [0; KEY_INFORMATION];
    keys[..10].copy_from_slice(&sha256(&[serial.as_bytes()])[..10]);
    keys[10..13].copy_from_slice(&[0x30, 0x03, 0x70]);
    keys[13..].copy_from_slice(&sequence);
    Material { serial, keys: &keys }.emit()
}
