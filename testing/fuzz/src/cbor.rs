//! A second opinion on CBOR (RFC 8949), independent of the readers under test, but where values are passed over.

use akm_core::cbor::FIRST_KEY_TO_PASS_OVER;
use minicbor::data::Type;
use minicbor::{Decoder, Encoder};

/// What the rules of `docs/akm.cddl` say of one message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Form {
    /// Core deterministic encoding (RFC 8949, section 4.2.1).
    Deterministic,
    /// One whole item of definite length with ascending integer keys, and some number not in its shortest form.
    Definite,
    /// What no reader may take: cut short or too long, indefinite lengths, keys that do not ascend or are no
    /// small integers, tags, floats, text that is not UTF-8.
    Forbidden,
}

const DEPTH_MAX: usize = 16;

/// The form of a message.
pub fn form(bytes: &[u8]) -> Form {
    let mut walk = Walk { rest: bytes, shortest: true };
    match walk.item(0) {
        Some(()) if walk.rest.is_empty() => {
            if walk.shortest {
                Form::Deterministic
            } else {
                Form::Definite
            }
        }
        _ => Form::Forbidden,
    }
}

/// Holds a reader that emits again what it has read to the rules: nothing forbidden is read, what is
/// deterministic comes back as it was, and all else comes back deterministic and no longer than it was.
///
/// # Panics
///
/// If it breaks one.
pub fn check_reread(bytes: &[u8], emitted: &[u8]) {
    assert_eq!(form(emitted), Form::Deterministic, "emitted {emitted:02x?}");
    match form(bytes) {
        Form::Deterministic => assert_eq!(emitted, bytes, "not emitted as it was read"),
        Form::Definite => assert!(emitted.len() < bytes.len(), "longer than what was read"),
        Form::Forbidden => panic!("read what must be refused: {bytes:02x?}"),
    }
}

/// The same for a message, of which a reader passes over what stands under a key from 64 on: that does not come back.
///
/// # Panics
///
/// If it breaks a rule.
pub fn check_reread_message(bytes: &[u8], emitted: &[u8]) {
    match without_passed_over(bytes) {
        Some(known) => check_reread(&known, emitted),
        None => check_reread(bytes, emitted),
    }
}

/// A message without what a reader passes over; `None` if its form is forbidden.
fn without_passed_over(bytes: &[u8]) -> Option<Vec<u8>> {
    let mut decoder = Decoder::new(bytes);
    let mut known = Vec::new();
    keep_known(&mut decoder, bytes, &mut known)?;
    Some(known)
}

fn keep_known(decoder: &mut Decoder<'_>, bytes: &[u8], known: &mut Vec<u8>) -> Option<()> {
    let start = decoder.position();
    match decoder.datatype().ok()? {
        Type::Map => {
            let entries = decoder.map().ok()??;
            let head = &bytes[start..decoder.position()];
            let (mut kept, mut content) = (0, Vec::new());
            for _ in 0..entries {
                let before = decoder.position();
                let key = decoder.u64().ok()?;
                if key >= FIRST_KEY_TO_PASS_OVER {
                    decoder.skip().ok()?;
                    continue;
                }
                kept += 1;
                content.extend_from_slice(&bytes[before..decoder.position()]);
                keep_known(decoder, bytes, &mut content)?;
            }
            if kept == entries {
                known.extend_from_slice(head);
            } else {
                Encoder::new(&mut *known).map(kept).ok()?;
            }
            known.extend_from_slice(&content);
        }
        Type::Array => {
            let items = decoder.array().ok()??;
            known.extend_from_slice(&bytes[start..decoder.position()]);
            for _ in 0..items {
                keep_known(decoder, bytes, known)?;
            }
        }
        _ => {
            decoder.skip().ok()?;
            known.extend_from_slice(&bytes[start..decoder.position()]);
        }
    }
    Some(())
}

struct Walk<'b> {
    rest: &'b [u8],
    shortest: bool,
}

impl Walk<'_> {
    fn item(&mut self, depth: usize) -> Option<()> {
        if depth > DEPTH_MAX {
            return None;
        }
        let (major, value) = self.head()?;
        match major {
            0 | 1 => Some(()),
            2 => self.take(value).map(drop),
            3 => std::str::from_utf8(self.take(value)?).ok().map(drop),
            4 => (0..value).try_for_each(|_| self.item(depth + 1)),
            5 => {
                let mut last = None;
                for _ in 0..value {
                    let (major, key) = self.head()?;
                    if major != 0 || key > u64::from(u8::MAX) || last.is_some_and(|last| key <= last) {
                        return None;
                    }
                    last = Some(key);
                    self.item(depth + 1)?;
                }
                Some(())
            }
            7 => matches!(value, 20 | 21).then_some(()),
            _ => None,
        }
    }

    /// Major type and argument; `None` also for an indefinite length.
    fn head(&mut self) -> Option<(u8, u64)> {
        let first = self.take(1)?[0];
        let (major, short) = (first >> 5, first & 0x1f);
        let value = match short {
            0..=23 => return Some((major, u64::from(short))),
            // In major type 7 longer arguments are floats, or simple values that nobody has.
            24..=27 if major < 7 => {
                let bytes = self.take(1 << (short - 24))?;
                bytes.iter().fold(0, |value, byte| value << 8 | u64::from(*byte))
            }
            _ => return None,
        };
        let least = [24, 1 << 8, 1 << 16, 1 << 32][usize::from(short - 24)];
        self.shortest &= value >= least;
        Some((major, value))
    }

    fn take(&mut self, length: u64) -> Option<&[u8]> {
        let (taken, rest) = self.rest.split_at_checked(usize::try_from(length).ok()?)?;
        self.rest = rest;
        Some(taken)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_three_forms_are_told_apart() {
        for (bytes, expected) in [
            (&b"\xa2\x00\x01\x01\x42ab"[..], Form::Deterministic),
            (b"\xa1\x18\x1e\xf5", Form::Deterministic),
            (b"\xa1\x00\x18\x01", Form::Definite),
            (b"\xa1\x18\x00\x01", Form::Definite),
            (b"\xa2\x01\x01\x00\x01", Form::Forbidden),
            (b"\xa2\x00\x01\x00\x01", Form::Forbidden),
            (b"\xbf\x00\x01\xff", Form::Forbidden),
            (b"\xa1\x00\x5f\x41a\xff", Form::Forbidden),
            (b"\xa1\x00\x01\x00", Form::Forbidden),
            (b"\xa1\x00\x61\xff", Form::Forbidden),
            (b"\xa1\x00\xf9\x00\x00", Form::Forbidden),
            (b"\xa1\x00\xc0\x00", Form::Forbidden),
            (b"", Form::Forbidden),
        ] {
            assert_eq!(form(bytes), expected, "{bytes:02x?}");
        }
    }
}
