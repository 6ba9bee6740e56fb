//! The part of an element's name that says which TPM it is.

use std::fmt;
use std::path::{Path, PathBuf};
use std::str::FromStr;

use crate::InvalidElementSpec;

/// The PCRs that a PC has.
const PCR_MAX: u8 = 23;

const TAKES: &str = "name it as tpm:device:/dev/tpmrm0 or tpm:swtpm:host=127.0.0.1,port=2321, either followed by \
                     ,pcrs=0+2+7 or nothing";

/// How to reach a TPM, and which of its PCRs roots are bound to.
///
/// ```text
/// tpm      = "tpm:" ( "device:" path / "swtpm:host=" host ",port=" port ) [ ",pcrs=" pcr *( "+" pcr ) ]
/// path     = an absolute path without comma, white space or control characters
/// host     = 1 to 253 letters, digits, "." , "-" and ":"; an IPv6 address stands without brackets
/// port     = 1 to 65535 in decimal, no leading zero; that of swtpm's --server: plain TPM frames over TCP
/// pcr      = 0 to 23 in decimal, no leading zero, in ascending order; of the SHA-256 bank
/// ```
///
/// There is one spelling for each, and `Display` gives it back; here both are without the leading `tpm:`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TpmSpec {
    pub(super) place: Place,
    pub(super) pcrs: Pcrs,
}

/// Where a TPM is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Place {
    /// A device of the kernel.
    Device(PathBuf),
    /// A swtpm, or another that takes plain TPM frames over TCP.
    Swtpm {
        /// Its name or address.
        host: String,
        /// Its port.
        port: u16,
    },
}

/// A set of PCRs of the SHA-256 bank, as a TPM writes it: bit n of the little-endian number is PCR n.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Pcrs([u8; 3]);

impl Pcrs {
    pub(super) fn from_bytes(bytes: [u8; 3]) -> Self {
        Self(bytes)
    }

    pub(super) fn as_bytes(self) -> [u8; 3] {
        self.0
    }

    pub(super) fn is_empty(self) -> bool {
        self.0 == [0; 3]
    }

    fn contains(self, pcr: u8) -> bool {
        self.0[usize::from(pcr / 8)] & (1 << (pcr % 8)) != 0
    }

    /// Those that are here and not there.
    pub(super) fn without(self, others: Self) -> Self {
        Self(std::array::from_fn(|at| self.0[at] & !others.0[at]))
    }

    fn parse(text: &str) -> Option<Self> {
        let mut pcrs = Self::default();
        let mut last = None;
        for text in text.split('+') {
            let pcr = decimal(text).and_then(|pcr| u8::try_from(pcr).ok()).filter(|pcr| *pcr <= PCR_MAX)?;
            if last.is_some_and(|last| pcr <= last) {
                return None;
            }
            last = Some(pcr);
            pcrs.0[usize::from(pcr / 8)] |= 1 << (pcr % 8);
        }
        Some(pcrs)
    }
}

impl fmt::Display for Pcrs {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let pcrs: Vec<String> =
            (0..=PCR_MAX).filter(|pcr| self.contains(*pcr)).map(|pcr| pcr.to_string()).collect();
        f.write_str(&pcrs.join("+"))
    }
}

impl TpmSpec {
    /// A TPM that the kernel shows under this path.
    pub(super) fn device(path: &Path) -> Option<Self> {
        format!("device:{}", path.to_str()?).parse().ok()
    }
}

impl FromStr for TpmSpec {
    type Err = InvalidElementSpec;

    fn from_str(text: &str) -> Result<Self, InvalidElementSpec> {
        let malformed =
            |what: &str| InvalidElementSpec::Malformed { kind: "tpm", why: format!("{what}: {TAKES}") };
        let (place, pcrs) = match text.split_once(",pcrs=") {
            None => (text, Pcrs::default()),
            Some((place, pcrs)) => {
                let pcrs = Pcrs::parse(pcrs).ok_or_else(|| {
                    malformed("the PCRs are not numbers from 0 to 23 in ascending order, joined by +")
                })?;
                (place, pcrs)
            }
        };
        let place = if let Some(path) = place.strip_prefix("device:") {
            if !is_device_path(path) {
                return Err(malformed("the device is not an absolute path without comma and white space"));
            }
            Place::Device(path.into())
        } else if let Some(options) = place.strip_prefix("swtpm:") {
            parse_swtpm(options)
                .ok_or_else(|| malformed("host or port of the swtpm is not as it should be"))?
        } else {
            return Err(malformed("it is neither a device nor a swtpm"));
        };
        Ok(Self { place, pcrs })
    }
}

fn is_device_path(path: &str) -> bool {
    path.starts_with('/') && !path.contains(|c: char| c == ',' || c.is_whitespace() || c.is_control())
}

fn parse_swtpm(options: &str) -> Option<Place> {
    let (host, port) = options.strip_prefix("host=")?.split_once(",port=")?;
    let is_host = (1..=253).contains(&host.len())
        && host.bytes().all(|byte| byte.is_ascii_alphanumeric() || b".-:".contains(&byte));
    let port = decimal(port).filter(|port| *port > 0)?;
    is_host.then(|| Place::Swtpm { host: host.into(), port })
}

/// A number in its one decimal spelling.
fn decimal(text: &str) -> Option<u16> {
    text.parse().ok().filter(|number: &u16| number.to_string() == text)
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Device(path) => write!(f, "device:{}", path.display()),
            Self::Swtpm { host, port } => write!(f, "swtpm:host={host},port={port}"),
        }
    }
}

impl fmt::Display for TpmSpec {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.place.fmt(f)?;
        if self.pcrs.is_empty() {
            return Ok(());
        }
        write!(f, ",pcrs={}", self.pcrs)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn a_device_and_a_swtpm_are_read_with_and_without_pcrs() {
        for text in [
            "device:/dev/tpmrm0",
            "device:/dev/tpm0,pcrs=7",
            "swtpm:host=127.0.0.1,port=2321",
            "swtpm:host=::1,port=65535,pcrs=0+2+7+23",
            "swtpm:host=tpm-1.example,port=1",
        ] {
            let spec: TpmSpec = text.parse().unwrap();
            assert_eq!(spec.to_string(), text);
        }
        let spec: TpmSpec = "device:/dev/tpm0,pcrs=0+9+23".parse().unwrap();
        assert_eq!(spec.pcrs.as_bytes(), [1, 2, 0x80]);
    }

    #[test]
    fn what_names_no_tpm_is_refused_with_how_to_name_one() {
        for text in [
            "",
            "device:",
            "device:dev/tpmrm0",
            "device:/dev/tpm 0",
            "device:/dev/tpm0\n",
            "device:/dev/tpm0,",
            "device:/dev/tpm0,pcrs=",
            "device:/dev/tpm0,pcrs=24",
            "device:/dev/tpm0,pcrs=07",
            "device:/dev/tpm0,pcrs=7+2",
            "device:/dev/tpm0,pcrs=7+7",
            "device:/dev/tpm0,pcrs=7,pcrs=8",
            "device:/dev/tpm0,port=1",
            "swtpm:",
            "swtpm:host=,port=1",
            "swtpm:port=1,host=a",
            "swtpm:host=a,port=0",
            "swtpm:host=a,port=01",
            "swtpm:host=a,port=+1",
            "swtpm:host=a,port=65536",
            "swtpm:host=a b,port=1",
            "mssim:host=a,port=1",
        ] {
            let why = text.parse::<TpmSpec>().unwrap_err().to_string();
            assert!(why.starts_with("tpm: ") && why.contains("tpm:device:/dev/tpmrm0"), "{text}: {why}");
        }
    }

    proptest! {
        #[test]
        fn what_is_accepted_is_given_back_as_it_was(
            text in "(device:/.*|swtpm:host=[a-z.:]*,port=[0-9]{1,5})(,pcrs=[0-9]{1,2}(\\+[0-9]{1,2})?)?"
        ) {
            if let Ok(spec) = text.parse::<TpmSpec>() {
                prop_assert_eq!(spec.to_string(), text);
            }
        }
    }
}
