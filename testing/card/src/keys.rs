//! The static keys of a card, out of a file of keys.

use std::fmt;

use zeroize::Zeroizing;

/// The static keys of a card.
pub struct StaticKeys {
    /// Key version.
    pub version: u8,
    /// For session encryption and challenges.
    pub enc: Zeroizing<[u8; 16]>,
    /// For session MACs and cryptograms.
    pub mac: Zeroizing<[u8; 16]>,
    /// For what is encrypted inside.
    pub dek: Zeroizing<[u8; 16]>,
}

/// No line of a key file is for this card, or it is not as it should be.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("no line `{}`", "SERIAL VERSION ENC MAC DEK")]
pub struct InvalidKeys;

impl StaticKeys {
    /// Finds a card's line in the text of a key file: that of its serial number, else that of `*`.
    pub fn find(text: &str, serial: &str) -> Result<Self, InvalidKeys> {
        let lines = || text.lines().map(|line| line.split_whitespace().collect::<Vec<_>>());
        let line = [serial, "*"]
            .iter()
            .find_map(|wanted| lines().find(|words| words.len() == 5 && words[0] == *wanted))
            .ok_or(InvalidKeys)?;
        let [version] = hex(line[1])?;
        Ok(Self {
            version,
            enc: Zeroizing::new(hex(line[2])?),
            mac: Zeroizing::new(hex(line[3])?),
            dek: Zeroizing::new(hex(line[4])?),
        })
    }
}

impl fmt::Debug for StaticKeys {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("StaticKeys").field("version", &self.version).finish_non_exhaustive()
    }
}

fn hex<const N: usize>(text: &str) -> Result<[u8; N], InvalidKeys> {
    if text.len() != 2 * N || !text.is_ascii() {
        return Err(InvalidKeys);
    }
    let mut bytes = [0; N];
    for (at, byte) in bytes.iter_mut().enumerate() {
        *byte = u8::from_str_radix(&text[2 * at..2 * at + 2], 16).map_err(|_| InvalidKeys)?;
    }
    Ok(bytes)
}
