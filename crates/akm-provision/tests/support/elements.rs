//! Real elements for whole nodes: each kind started for one test, and how a command names it.
#![allow(dead_code, reason = "each test program uses a part of it")]

use std::fs;
use std::path::PathBuf;

use akm_element::ElementSpec;
use akm_element::testing::softhsm::{PIN, SoftHsm};
use akm_element::testing::swtpm::Swtpm;
use akm_element::testing::vpcd::{CARD_KEYS, READERS, TestCard, Vpcd, wait_for_card};

/// An element that a test started; it ends with the value.
pub(crate) enum Real {
    Token(SoftHsm),
    Tpm(Swtpm),
    /// A card in the first of two readers; the service ends after it.
    Card(TestCard, Vpcd),
}

impl Real {
    pub(crate) fn token() -> Self {
        let store = SoftHsm::new();
        store.token("akm");
        Self::Token(store)
    }

    pub(crate) fn tpm() -> Self {
        Self::Tpm(Swtpm::start())
    }

    pub(crate) fn card() -> Self {
        let service = Vpcd::start();
        let mut card = service.card("0001");
        card.insert(0);
        wait_for_card(0);
        Self::Card(card, service)
    }

    /// What `--element` takes.
    pub(crate) fn spec(&self) -> String {
        match self {
            Self::Token(store) => store.spec("akm"),
            Self::Tpm(swtpm) => swtpm.spec(),
            Self::Card(..) => format!("card:{}", READERS[0]),
        }
    }

    /// Its kind, as an element calls itself.
    pub(crate) fn kind(&self) -> &'static str {
        match self {
            Self::Token(_) => "pkcs11",
            Self::Tpm(_) => "tpm",
            Self::Card(..) => "card",
        }
    }

    /// Whether it has a counter.
    pub(crate) fn counts(&self) -> bool {
        !matches!(self, Self::Token(_))
    }

    /// What a command that wraps for it takes beside its name.
    pub(crate) fn keys(&self) -> Vec<String> {
        match self {
            Self::Card(card, _) => vec!["--card-keys".to_owned(), card.keys().to_string_lossy().into_owned()],
            _ => Vec::new(),
        }
    }

    /// What must stand nowhere but in the file that the operator named: PIN and static keys.
    pub(crate) fn secrets(&self) -> Vec<Vec<u8>> {
        match self {
            Self::Token(_) => vec![PIN.as_bytes().to_vec()],
            Self::Tpm(_) => Vec::new(),
            Self::Card(..) => {
                let line: Vec<&str> = CARD_KEYS.split_whitespace().collect();
                let keys = &line[2..];
                assert_eq!(keys.len(), 3, "ENC, MAC and DEK");
                let bytes = |text: &str| {
                    let digits = text.as_bytes().chunks(2).map(|pair| std::str::from_utf8(pair).unwrap());
                    digits.map(|pair| u8::from_str_radix(pair, 16).unwrap()).collect()
                };
                keys.iter().flat_map(|text| [text.as_bytes().to_vec(), bytes(text)]).collect()
            }
        }
    }

    /// It holds no root, no key and no counter of a node. Nobody may be connected to it.
    #[track_caller]
    pub(crate) fn check_is_empty(&self) {
        match self {
            // Each object is a file; the one that stays is the token itself.
            Self::Token(store) => {
                let tokens = fs::read_dir(store.tokens()).unwrap().map(|token| token.unwrap().path());
                let files =
                    tokens.flat_map(|token| fs::read_dir(token).unwrap().map(|file| file.unwrap().path()));
                let objects: Vec<_> = files
                    .filter(|file| file.extension().is_some_and(|extension| extension == "object"))
                    .filter(|file| !file.ends_with("token.object"))
                    .collect();
                assert!(objects.is_empty(), "left in the token: {objects:?}");
            }
            // The storage key stays, and holds nothing.
            Self::Tpm(swtpm) => {
                let handles = |kind: &str| {
                    let (listed, said) = swtpm.tool("tpm2_getcap", &[&format!("handles-{kind}")]);
                    assert!(listed, "{said}");
                    said.lines().filter(|line| line.trim_start().starts_with("- 0x")).count()
                };
                let held = ["nv-index", "persistent", "transient", "loaded-session"].map(handles);
                assert_eq!(held, [0, 1, 0, 0], "counters, keys that stay, keys and sessions that do not");
            }
            Self::Card(..) => {
                let place = tempfile::tempdir().unwrap();
                let spec: ElementSpec = self.spec().parse().unwrap();
                let roots = spec.create(place.path()).and_then(|mut card| card.roots());
                assert_eq!(roots.expect("the card tells its roots"), []);
            }
        }
    }

    /// What programs must find in their environment to see it.
    pub(crate) fn environment(&self) -> Vec<(&'static str, PathBuf)> {
        match self {
            Self::Token(store) => vec![store.environment()],
            Self::Tpm(_) => Vec::new(),
            Self::Card(_, service) => vec![service.environment()],
        }
    }
}
