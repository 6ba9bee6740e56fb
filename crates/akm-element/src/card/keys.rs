//! The static keys of cards, and the file that an operator keeps them in.

use std::fmt;
use std::path::Path;

use akm_core::element::ElementError;
use akm_core::secret::Secret;
use akm_disk::private::Links;
use zeroize::Zeroizing;

use crate::software::read_private;

/// Bytes of each key.
pub(super) const KEY: usize = 16;

/// Longest file that is read: about 80,000 cards.
const FILE_LENGTH_MAX: usize = 10 * 1024 * 1024;

/// First byte of what [`CardKeys::emit`] makes.
const FORMAT: u8 = 1;

/// The static keys of one card, with which its secure channel is opened.
pub struct CardKeys {
    /// Key version, 0x01 to 0x7f.
    pub(super) version: u8,
    /// Makes the keys that encrypt commands (ENC).
    pub(super) encryption: Secret<KEY>,
    /// Makes the keys that authenticate (MAC).
    pub(super) mac: Secret<KEY>,
    /// Encrypts roots (DEK).
    pub(super) data: Secret<KEY>,
}

/// Why a file of card keys cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum InvalidCardKeys {
    /// It cannot be read, or is open to others.
    #[error("the file of card keys cannot be used: {0}")]
    File(ElementError),
    /// A line is not as it should be.
    #[error(
        "line {line} of {path} is no line of card keys: SERIAL (or *) VERSION ENC MAC DEK, with one space between, the version \
         01 to 7f and each key 32 digits, hexadecimal"
    )]
    Line {
        /// Name of the file.
        path: String,
        /// Which line, counted from 1.
        line: usize,
    },
    /// Two lines are for the same card.
    #[error("line {line} of {path} is for the same card as an earlier one: take one of them out")]
    Twice {
        /// Name of the file.
        path: String,
        /// Which line, counted from 1.
        line: usize,
    },
}

impl CardKeys {
    /// Reads the keys of one card from a file that holds those of one or many; `None` if this serial is not in it.
    ///
    /// The file must belong to this user and be closed to others. Each line is `SERIAL VERSION ENC MAC DEK`, version and keys in
    /// hexadecimal, or begins with `#`, or is empty; `*` stands for every card that has no line of its own. All lines
    /// are checked, also those of other cards.
    pub fn load(path: &Path, serial: &str) -> Result<Option<Self>, InvalidCardKeys> {
        let bytes = read_private(path, FILE_LENGTH_MAX, Links::Followed).map_err(InvalidCardKeys::File)?;
        Self::find(&bytes, serial).map_err(|error| {
            let path = path.display().to_string();
            match error {
                BadLine::Malformed(line) => InvalidCardKeys::Line { path, line },
                BadLine::Twice(line) => InvalidCardKeys::Twice { path, line },
            }
        })
    }

    fn find(bytes: &[u8], serial: &str) -> Result<Option<Self>, BadLine> {
        let mut seen = std::collections::BTreeSet::new();
        let (mut of_this, mut of_all) = (None, None);
        for (number, line) in bytes.split(|byte| *byte == b'\n').enumerate() {
            let number = number + 1;
            let line = line.strip_suffix(b"\r").unwrap_or(line);
            if line.is_empty() || line[0] == b'#' {
                continue;
            }
            let (card, keys) = Self::parse_line(line).ok_or(BadLine::Malformed(number))?;
            if !seen.insert(card) {
                return Err(BadLine::Twice(number));
            }
            if card == serial.as_bytes() {
                of_this = Some(keys);
            } else if card == b"*" {
                of_all = Some(keys);
            }
        }
        Ok(of_this.or(of_all))
    }

    fn parse_line(line: &[u8]) -> Option<(&[u8], Self)> {
        let words: Vec<&[u8]> = line.split(|byte| *byte == b' ').collect();
        let [card, version, encryption, mac, data] = words[..] else { return None };
        if card.is_empty() || card.len() > 32 || !card.iter().all(u8::is_ascii_graphic) {
            return None;
        }
        let version = hex::<1>(version)?.expose()[0];
        let keys = Self { version, encryption: hex(encryption)?, mac: hex(mac)?, data: hex(data)? };
        keys.is_version_possible().then_some((card, keys))
    }

    fn is_version_possible(&self) -> bool {
        (0x01..=0x7f).contains(&self.version)
    }

    /// Reads what [`CardKeys::emit`] made.
    pub fn parse(bytes: &[u8]) -> Option<Self> {
        let ([FORMAT, version], keys) = bytes.split_first_chunk()? else { return None };
        if keys.len() != 3 * KEY {
            return None;
        }
        let mut keys = keys.chunks_exact(KEY).map(Secret::copy_from);
        let keys =
            Self { version: *version, encryption: keys.next()??, mac: keys.next()??, data: keys.next()?? };
        keys.is_version_possible().then_some(keys)
    }

    /// The keys as bytes, to be sealed by whoever keeps them.
    pub fn emit(&self) -> Zeroizing<Vec<u8>> {
        // Never grown: a vector that moves leaves a copy of the keys behind.
        let mut bytes = Zeroizing::new(Vec::with_capacity(2 + 3 * KEY));
        bytes.extend_from_slice(&[FORMAT, self.version]);
        for key in [&self.encryption, &self.mac, &self.data] {
            bytes.extend_from_slice(key.expose());
        }
        bytes
    }
}

#[derive(Debug, PartialEq, Eq)]
enum BadLine {
    Malformed(usize),
    Twice(usize),
}

fn hex<const N: usize>(text: &[u8]) -> Option<Secret<N>> {
    if text.len() != 2 * N {
        return None;
    }
    let digit = |at: usize| char::from(text[at]).to_digit(16).map(|digit| digit as u8).ok_or(());
    Secret::try_fill(|out| {
        for (at, byte) in out.iter_mut().enumerate() {
            *byte = digit(2 * at)? << 4 | digit(2 * at + 1)?;
        }
        Ok::<(), ()>(())
    })
    .ok()
}

impl fmt::Debug for CardKeys {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("CardKeys").field("version", &self.version).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;
    use std::os::unix::fs::PermissionsExt;

    const ONE: &str = "SB-1 30 000102030405060708090a0b0c0d0e0f 101112131415161718191A1B1C1D1E1F \
                       202122232425262728292a2b2c2d2e2f";
    const ALL: &str = "* 01 00000000000000000000000000000000 00000000000000000000000000000000 \
                       00000000000000000000000000000000";

    fn find(text: &str, serial: &str) -> Result<Option<u8>, BadLine> {
        CardKeys::find(text.as_bytes(), serial).map(|keys| keys.map(|keys| keys.version))
    }

    #[test]
    fn a_card_has_its_own_line_or_that_of_all() {
        let text = format!("# cards\n\n{ALL}\r\n{ONE}\n");
        assert_eq!(find(&text, "SB-1"), Ok(Some(0x30)));
        assert_eq!(find(&text, "SB-2"), Ok(Some(0x01)));
        assert_eq!(find(ONE, "SB-2"), Ok(None));
        assert_eq!(find("", "SB-1"), Ok(None));
        let keys = CardKeys::find(text.as_bytes(), "SB-1").unwrap().unwrap();
        assert!(keys.mac.equals(&std::array::from_fn::<u8, 16, _>(|at| 0x10 + at as u8)));
    }

    #[test]
    fn a_line_that_is_not_as_it_should_be_is_named_by_its_number() {
        for wrong in [
            "SB-1".to_owned(),
            format!(" {ONE}"),
            format!("{ONE} "),
            ONE.replace(' ', "  "),
            ONE.replace("30", "80"),
            ONE.replace("30", "00"),
            ONE.replace("30", "3"),
            ONE.replace("0f", "0g"),
            ONE.replace("0f", "0"),
            ONE.replace("SB-1", "SB\u{e9}"),
            format!("{} 30", &ONE[..ONE.len() - 2]),
        ] {
            assert_eq!(find(&format!("# x\n{wrong}\n"), "SB-9"), Err(BadLine::Malformed(2)), "{wrong:?}");
        }
        assert_eq!(find(&format!("{ONE}\n{ALL}\n{ONE}"), "SB-9"), Err(BadLine::Twice(3)));
    }

    #[test]
    fn the_file_must_be_closed_to_others_and_no_error_shows_a_key() {
        let place = tempfile::tempdir().unwrap();
        let path = place.path().join("cards");
        let load = || CardKeys::load(&path, "SB-1");
        assert!(load().unwrap_err().to_string().contains("is missing"));
        fs::write(&path, format!("{ONE}\n{ONE}1\n")).unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(0o640)).unwrap();
        assert!(load().unwrap_err().to_string().contains("has mode 0640"));
        fs::set_permissions(&path, fs::Permissions::from_mode(0o600)).unwrap();
        let error = load().unwrap_err();
        let text = format!("{error} {error:?}");
        assert!(text.contains("line 2 of ") && !text.contains("0a0b"), "{text}");
    }

    #[test]
    fn what_is_emitted_is_read_back_and_nothing_else() {
        let keys = CardKeys::find(ONE.as_bytes(), "SB-1").unwrap().unwrap();
        let bytes = keys.emit();
        assert_eq!(CardKeys::parse(&bytes).unwrap().emit(), bytes);
        for length in 0..bytes.len() {
            assert!(CardKeys::parse(&bytes[..length]).is_none(), "{length}");
        }
        for (at, value) in [(0, 2), (1, 0), (1, 0x80)] {
            let mut altered = bytes.to_vec();
            altered[at] = value;
            assert!(CardKeys::parse(&altered).is_none(), "{at} {value}");
        }
        assert!(CardKeys::parse(&[&bytes[..], &[0]].concat()).is_none());
    }

    #[test]
    fn debug_text_shows_no_key() {
        let keys = CardKeys::find(ONE.as_bytes(), "SB-1").unwrap().unwrap();
        assert_eq!(format!("{keys:?}"), "CardKeys { version: 48, .. }");
    }
}
