//! The configuration of the stack, `akmd.toml`.

use akm_element::ElementSpec;
use akm_transport::Endpoint;
use serde::Deserialize;

use crate::error::{Damage, NodeError};
use crate::layout::Layout;

/// What the module decided for this node at installation. Part of the integrity code.
#[derive(Clone, Debug)]
pub struct Config {
    /// UDP for frames, TCP for management, on the same port number.
    pub listen: Endpoint,
    /// The node's element.
    pub element: ElementSpec,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Written {
    listen: String,
    element: String,
}

impl Config {
    /// Reads the configuration of an installation.
    pub fn load(layout: &Layout) -> Result<Self, NodeError> {
        let path = layout.config();
        let damaged = |why| NodeError::Damaged { path: path.clone(), damage: Damage::Configuration { why } };
        let bytes = std::fs::read(&path).map_err(|error| match error.kind() {
            std::io::ErrorKind::NotFound => damaged("missing".to_owned()),
            _ => NodeError::file("cannot read", &path)(error),
        })?;
        let text = String::from_utf8(bytes).map_err(|_| damaged("not a text".to_owned()))?;
        Self::parse(&text).map_err(damaged)
    }

    /// Reads the text of a configuration. The error says what is wrong with it.
    pub fn parse(text: &str) -> Result<Self, String> {
        let written: Written = toml::from_str(text).map_err(|error| error.message().replace('\n', ", "))?;
        let element = written.element.parse().map_err(|error| format!("element: {error}"))?;
        let listen = written.listen.parse().map_err(|error| format!("listen: {error}"))?;
        Ok(Self { listen, element })
    }
}
