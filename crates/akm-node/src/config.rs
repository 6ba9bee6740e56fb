//! The configuration of the stack, `akmd.toml`.

use std::net::SocketAddr;

use akm_element::ElementSpec;
use serde::Deserialize;

use crate::error::NodeError;
use crate::layout::Layout;

/// What the module decided for this node at installation. Part of the integrity code.
#[derive(Clone, Debug)]
pub struct Config {
    /// UDP for frames, TCP for management, on the same port number.
    pub listen: SocketAddr,
    /// The node's element.
    pub element: ElementSpec,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Written {
    listen: SocketAddr,
    element: String,
}

impl Config {
    /// Reads the configuration of an installation.
    pub fn load(layout: &Layout) -> Result<Self, NodeError> {
        let path = layout.config();
        let text = std::fs::read_to_string(&path).map_err(NodeError::file("cannot read", &path))?;
        let damaged = |what: String| NodeError::Damaged { path: path.clone(), what };
        let written: Written = toml::from_str(&text).map_err(|error| damaged(error.message().to_owned()))?;
        let element = written.element.parse().map_err(|error| damaged(format!("element: {error}")))?;
        Ok(Self { listen: written.listen, element })
    }
}
