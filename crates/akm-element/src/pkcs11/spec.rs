//! Which token an element is: its URI (RFC 7512).

use std::fmt;
use std::path::{Path, PathBuf};
use std::str::FromStr;

use crate::InvalidElementSpec;

/// Which token, by its URI (RFC 7512) without the scheme:
/// `token=LABEL?module-path=/abs/library.so&pin-source=file:/abs/pin`.
///
/// `serial`, `manufacturer` and `model` beside `token` choose among several of one label. All other
/// attributes are refused, and so is a PIN in the text. It is given back exactly as it was accepted.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Pkcs11Spec {
    text: String,
    pub(super) choice: Choice,
    module_path: PathBuf,
    pin_file: PathBuf,
}

/// What a token says of itself, as far as the spec asks for it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Choice {
    pub(super) token: String,
    pub(super) serial: Option<String>,
    pub(super) manufacturer: Option<String>,
    pub(super) model: Option<String>,
}

impl Pkcs11Spec {
    /// The label of the token.
    pub fn token(&self) -> &str {
        &self.choice.token
    }

    /// The PKCS#11 library that speaks to the token.
    pub fn module_path(&self) -> &Path {
        &self.module_path
    }

    /// The file that holds the user's PIN.
    pub fn pin_file(&self) -> &Path {
        &self.pin_file
    }
}

impl FromStr for Pkcs11Spec {
    type Err = InvalidElementSpec;

    fn from_str(text: &str) -> Result<Self, InvalidElementSpec> {
        parse(text).map_err(|why| InvalidElementSpec::Malformed { kind: "pkcs11", why })
    }
}

impl fmt::Display for Pkcs11Spec {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

/// A label, serial number or the like as it stands in a URI: whatever is not plain is percent-encoded.
pub(super) fn encode(value: &str) -> String {
    let mut text = String::with_capacity(value.len());
    for byte in value.bytes() {
        match byte {
            b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'-' | b'.' | b'_' | b'~' => text.push(byte.into()),
            _ => text.push_str(&format!("%{byte:02X}")),
        }
    }
    text
}

/// A path as it stands in a URI.
pub(super) fn encode_path(path: &str) -> String {
    path.split('/').map(encode).collect::<Vec<_>>().join("/")
}

fn parse(text: &str) -> Result<Pkcs11Spec, String> {
    let (path, query) = text.split_once('?').unwrap_or((text, ""));
    let mut token = None;
    let mut serial = None;
    let mut manufacturer = None;
    let mut model = None;
    let mut module_path = None;
    let mut pin_source = None;
    for attribute in path.split(';').filter(|_| !path.is_empty()) {
        let (name, value) = split(attribute)?;
        let place = match name {
            "token" => &mut token,
            "serial" => &mut serial,
            "manufacturer" => &mut manufacturer,
            "model" => &mut model,
            _ => return Err(unknown(name)),
        };
        keep(place, name, decode(value, ":[]@!$'()*+,=&")?)?;
    }
    for attribute in query.split('&').filter(|_| !query.is_empty()) {
        let (name, value) = split(attribute)?;
        let place = match name {
            "module-path" => &mut module_path,
            "pin-source" => &mut pin_source,
            "pin-value" => {
                return Err(
                    "a PIN does not belong into a text that others read: put it into a file of mode \
                            0600, and name that with pin-source=file:/abs/path"
                        .to_owned(),
                );
            }
            _ => return Err(unknown(name)),
        };
        keep(place, name, decode(value, ":[]@!$'()*+,=/?|")?)?;
    }
    let token = token.ok_or("the token is missing: token=LABEL")?;
    let module_path = module_path
        .ok_or("the library is missing: ?module-path=/abs/library.so, as the token's maker names it")?;
    let pin_source =
        pin_source.ok_or("the PIN is missing: &pin-source=file:/abs/path, a file of mode 0600")?;
    let pin_file = pin_source
        .strip_prefix("file:")
        .map(|path| path.strip_prefix("//").unwrap_or(path))
        .ok_or("a PIN comes from a file: pin-source=file:/abs/path")?;
    Ok(Pkcs11Spec {
        choice: Choice { token, serial, manufacturer, model },
        module_path: absolute("module-path", &module_path)?,
        pin_file: absolute("pin-source", pin_file)?,
        text: text.to_owned(),
    })
}

fn unknown(name: &str) -> String {
    format!(
        "attribute {name:?} is not understood; a token is named by token, serial, manufacturer and model, then by \
         module-path and pin-source behind the question mark"
    )
}

fn split(attribute: &str) -> Result<(&str, &str), String> {
    attribute.split_once('=').ok_or_else(|| format!("{attribute:?} is no attribute: NAME=VALUE"))
}

fn keep(place: &mut Option<String>, name: &str, value: String) -> Result<(), String> {
    if value.is_empty() {
        return Err(format!("{name} is empty"));
    }
    if place.replace(value).is_some() {
        return Err(format!("{name} stands twice"));
    }
    Ok(())
}

fn absolute(name: &str, path: &str) -> Result<PathBuf, String> {
    if !path.starts_with('/') {
        return Err(format!("{name} takes an absolute path, not {path:?}"));
    }
    Ok(PathBuf::from(path))
}

/// Percent-decodes a value in which only letters, digits, `-._~` and `allowed` may stand for themselves.
fn decode(value: &str, allowed: &str) -> Result<String, String> {
    let mut decoded = Vec::with_capacity(value.len());
    let mut rest = value.bytes();
    while let Some(byte) = rest.next() {
        decoded.push(match byte {
            b'%' => {
                let digit = |byte: Option<u8>| char::from(byte?).to_digit(16);
                match (digit(rest.next()), digit(rest.next())) {
                    (Some(high), Some(low)) => (high * 16 + low) as u8,
                    _ => return Err(format!("{value:?} has a % that two hexadecimal digits do not follow")),
                }
            }
            byte if byte.is_ascii_alphanumeric() || b"-._~".contains(&byte) => byte,
            byte if allowed.as_bytes().contains(&byte) => byte,
            _ => {
                return Err(format!(
                    "{value:?} has characters that must be percent-encoded, such as %20 for a space"
                ));
            }
        });
    }
    match String::from_utf8(decoded) {
        Ok(decoded) if !decoded.contains(char::is_control) => Ok(decoded),
        _ => Err(format!("{value:?} does not decode to plain UTF-8")),
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const GOOD: &str = "token=akm?module-path=/usr/lib/softhsm/libsofthsm2.so&pin-source=file:/etc/akm/pin";

    fn why(text: &str) -> String {
        match text.parse::<Pkcs11Spec>() {
            Err(InvalidElementSpec::Malformed { kind: "pkcs11", why }) => why,
            other => panic!("{text}: {other:?}"),
        }
    }

    #[test]
    fn a_token_is_named_by_label_library_and_pin_file() {
        let spec: Pkcs11Spec = GOOD.parse().unwrap();
        assert_eq!(spec.token(), "akm");
        assert_eq!(spec.module_path(), Path::new("/usr/lib/softhsm/libsofthsm2.so"));
        assert_eq!(spec.pin_file(), Path::new("/etc/akm/pin"));
        assert_eq!(spec.choice, Choice { token: "akm".into(), ..Choice::default() });
        assert_eq!(
            format!("pkcs11:{GOOD}").parse::<crate::ElementSpec>().unwrap().to_string(),
            format!("pkcs11:{GOOD}")
        );
    }

    #[test]
    fn values_are_percent_decoded_and_may_come_in_any_order() {
        let text = "serial=1%3b2;model=v%202;token=my%20token%2F%c3%a4;manufacturer=A:B?pin-source=file:///etc/a%20pin&module-path=/m.so";
        let spec: Pkcs11Spec = text.parse().unwrap();
        assert_eq!(
            spec.choice,
            Choice {
                token: "my token/ä".into(),
                serial: Some("1;2".into()),
                manufacturer: Some("A:B".into()),
                model: Some("v 2".into())
            }
        );
        assert_eq!(spec.pin_file(), Path::new("/etc/a pin"));
        assert_eq!(spec.to_string(), text);
    }

    #[test]
    fn a_pin_in_the_text_is_refused_without_repeating_it() {
        let said = why("token=akm?module-path=/m.so&pin-value=1234");
        assert!(said.contains("pin-source=file:/abs/path") && !said.contains("1234"), "{said}");
    }

    #[test]
    fn what_is_missing_doubled_or_unknown_is_told_by_name() {
        for (text, says) in [
            ("", "the token is missing"),
            ("token=akm", "the library is missing"),
            ("token=akm?", "the library is missing"),
            ("token=akm?module-path=/m.so", "the PIN is missing"),
            ("?module-path=/m.so&pin-source=file:/p", "the token is missing"),
            ("token=?module-path=/m.so&pin-source=file:/p", "token is empty"),
            ("token=a;token=b?module-path=/m.so&pin-source=file:/p", "token stands twice"),
            ("token=a?module-path=/m.so&module-path=/m.so&pin-source=file:/p", "module-path stands twice"),
            ("token=a;?module-path=/m.so&pin-source=file:/p", "\"\" is no attribute"),
            ("token=a;object=b?module-path=/m.so&pin-source=file:/p", "\"object\" is not understood"),
            ("token=a?module-name=m&pin-source=file:/p", "\"module-name\" is not understood"),
            ("module-path=/m.so;token=a?pin-source=file:/p", "\"module-path\" is not understood"),
            ("token=a?module-path=m.so&pin-source=file:/p", "module-path takes an absolute path"),
            ("token=a?module-path=/m.so&pin-source=file:p", "pin-source takes an absolute path"),
            ("token=a?module-path=/m.so&pin-source=/p", "a PIN comes from a file"),
            ("token=a?module-path=/m.so&pin-source=|cat%20/p", "a PIN comes from a file"),
            ("token=a b?module-path=/m.so&pin-source=file:/p", "percent-encoded"),
            ("token=ä?module-path=/m.so&pin-source=file:/p", "percent-encoded"),
            ("token=a%2?module-path=/m.so&pin-source=file:/p", "two hexadecimal digits"),
            ("token=a%+1?module-path=/m.so&pin-source=file:/p", "two hexadecimal digits"),
            ("token=a%00?module-path=/m.so&pin-source=file:/p", "plain UTF-8"),
            ("token=%ff?module-path=/m.so&pin-source=file:/p", "plain UTF-8"),
        ] {
            assert!(why(text).contains(says), "{text}: {}", why(text));
        }
    }

    proptest! {
        #[test]
        fn what_is_accepted_is_given_back_as_it_was(text in "(token=a)?;?(serial=%3[0-9a-f])?[?](module-path=/m)?&?(pin-source=file:/p)?.{0,3}") {
            if let Ok(spec) = text.parse::<Pkcs11Spec>() {
                prop_assert_eq!(spec.to_string(), text);
            }
        }

        #[test]
        fn every_label_can_be_named(label in "[^\\p{Cc}]{1,32}") {
            let text = format!("token={}?module-path=/m.so&pin-source=file:/p", encode(&label));
            let spec: Pkcs11Spec = text.parse().unwrap();
            prop_assert_eq!(spec.token(), label);
        }
    }
}
