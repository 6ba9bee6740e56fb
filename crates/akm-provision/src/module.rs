//! The one door to the module: what can be asked of it, and what it answers.
//!
//! ```text
//!   a face ---> Module { store, keyring } ---> ceremony, relationship, diagnosis, serve
//!   (akm)  <--- view, or Error            <---
//! ```
//!
//! What a face does: it reads what is asked, shows the answer, and asks people for a passphrase. What is decided here: how
//! a module that was cut off while it was made goes on, which nodes an order is about, what has to be done for nodes that
//! were reached, and when to ask again.
//!
//! An answer for which nodes were asked comes as [`Asked`]: when it is shown, [`Module::carry_on`] does what waited for
//! those nodes. What there is to know before an answer is there comes as [`Progress`].

mod asr;
mod home;
mod node;
#[cfg(test)]
mod tests;

use std::collections::BTreeSet;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use akm_core::id::AkmId;
use akm_core::management::RelationshipStatus;

use crate::diagnosis::{self, Finding};
use crate::error::Error;
use crate::keyring::Keyring;
use crate::names::Name;
use crate::progress::Progress;
use crate::relationship;
use crate::serve;
use crate::store::Store;
use crate::view;

pub use asr::AsrShown;
pub use home::{Custody, Founding, Passphrase, Wanted};

/// A module that is open.
#[derive(Debug)]
pub struct Module {
    store: Store,
    keyring: Keyring,
}

/// An answer for which nodes were asked, and who of them was reached.
#[derive(Debug)]
#[must_use = "what waits for the nodes that were reached is done by `Module::carry_on`"]
pub struct Asked<T> {
    /// The answer.
    pub answer: T,
    /// Who was reached.
    pub reached: Reached,
}

impl<T> Asked<T> {
    /// The same with another form of the answer.
    pub fn map<U>(self, form: impl FnOnce(T) -> U) -> Asked<U> {
        Asked { answer: form(self.answer), reached: self.reached }
    }
}

/// Nodes that were reached, and what they said of their relationships.
#[derive(Debug, Default)]
pub struct Reached {
    nodes: BTreeSet<AkmId>,
    heard: Vec<RelationshipStatus>,
}

impl Reached {
    fn add(&mut self, node: AkmId, heard: &[RelationshipStatus]) {
        self.nodes.insert(node);
        self.heard.extend_from_slice(heard);
    }
}

impl Module {
    /// The same with a file that holds the static keys of cards. Those in it count more than those that the module keeps.
    #[must_use]
    pub fn with_card_keys(self, file: Option<PathBuf>) -> Self {
        Self { keyring: Keyring::new(file), ..self }
    }

    /// Who it is, and where it lives.
    pub fn view(&self) -> view::Module {
        view::Module::of(&self.store)
    }

    /// Does what is parked for nodes that were reached, and renews the ASRs in which one of them found back.
    pub fn carry_on(&self, reached: &Reached, tell: &mut dyn FnMut(Progress)) -> Result<(), Error> {
        // One does not wait for the other.
        let carried_on = relationship::carry_on(&self.store, &reached.nodes, tell);
        let renewed =
            relationship::renew_found_back(&self.store, &reached.heard, tell)?.failed.map_or(Ok(()), Err);
        carried_on.and(renewed)
    }

    /// All that is parked: oldest first, then by node.
    pub fn tasks(&self) -> Result<Vec<view::Task>, Error> {
        Ok(relationship::tasks(&self.store)?.into_iter().map(view::Task::from).collect())
    }

    /// Why two nodes do not reach each other, in one ASR or in all that they have in common; the gravest cause is the first.
    pub fn diagnose(&self, nodes: [&Name; 2], asr: Option<&Name>) -> Result<Vec<Finding>, Error> {
        let [one, other] = [self.node_named(nodes[0])?, self.node_named(nodes[1])?];
        let asr = asr.map(|asr| self.asr_named(asr)).transpose()?;
        diagnosis::diagnose(&self.store, [&one, &other], asr.as_ref())
    }

    /// Stays running until it is told to end, and carries parked work on. `every` is the time between two rounds in which
    /// all nodes are asked; `metrics` is where health and metrics are shown.
    pub fn serve(
        &self,
        metrics: Option<SocketAddr>,
        every: Duration,
        tell: &mut dyn FnMut(Progress),
    ) -> Result<(), Error> {
        serve::serve(&self.store, metrics, every, tell)
    }
}
