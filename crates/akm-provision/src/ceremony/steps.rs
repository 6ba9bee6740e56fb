//! Steps 3, 4 and 5.

use std::time::{Duration, Instant};

use akm_core::element::{Description, RootCheck};
use akm_core::enrolment::{Envelope, Preparation, StackFile, integrity_code};
use akm_core::id::AkmId;
use akm_core::management::Install;
use akm_core::proof::Proof;
use akm_core::sds::{ElementRoot, SynchronizedDataSet};
use akm_core::secret::SecretBytes;
use akm_element::{ElementSpec, WrapKeys, wrap};
use akm_target::{Release, Stack, Target};

use super::checks::{check_element, text_of};
use super::luggage::{self, NO_ADDRESS};
use super::preparation::{element_refused, read_preparation, stack_failed, tagged_line, target_of};
use super::{FIRST_AT_TARGET, Provisioner, STEP_NAMES, begins, verification};
use crate::error::ceremony::{AtElement, Device, Refusal};
use crate::error::{Error, Unfinished};
use crate::keyring::{Keyring, forget_card};
use crate::link::Link;
use crate::mint::seal_host_part;
use crate::names::Timestamp;
use crate::progress::{OfCeremony, Progress, StepReport};
use crate::store::{JournalEntry, MemberState, Node, STEPS, Store};

impl Provisioner<'_> {
    /// The steps at the target. They are all done again when a ceremony goes on: what is there already is
    /// found there, and what was lost meanwhile is put there again.
    pub(super) fn run_from(&self, node: &Node, tell: &mut dyn FnMut(Progress)) -> Result<Node, Error> {
        if self.store.ceremony(node.id)?.is_none_or(|ceremony| ceremony.completed < FIRST_AT_TARGET - 1) {
            return Err(super::not_in_store("the first two steps of this ceremony"));
        }
        let target = target_of(node);
        let mut steps = Steps::new(*self, node.id, &target);
        catch_up_journal(self.store, node)?;
        for number in FIRST_AT_TARGET..=STEPS {
            let result = timed(self.store, node, number, tell, || match number {
                FIRST_AT_TARGET => steps.install(),
                STEPS => steps.verify(),
                _ => steps.store(),
            });
            // In this order: a step that counts is in the journal.
            let concluded = result.and_then(|report| steps.conclude(number).map(|()| tell(report.into())));
            if let Err(error) = concluded {
                // The self.store may be what failed: the error of the step counts.
                let _ = self.store.fail_step(node.id, &error.to_string());
                return Err(Unfinished::CutOff { name: node.name.clone(), source: Box::new(error) }.into());
            }
        }
        steps.notes.into_iter().for_each(|note| tell(note.into()));
        Ok(self.store.node(node.id)?)
    }
}

/// Runs a step and writes it into the journal.
pub(super) fn timed(
    store: &Store,
    node: &Node,
    number: u8,
    tell: &mut dyn FnMut(Progress),
    step: impl FnOnce() -> Result<String, Error>,
) -> Result<StepReport, Error> {
    tell(begins(number));
    let started_at = Timestamp::now();
    let started = Instant::now();
    let result = step();
    let duration = started.elapsed();
    let name = STEP_NAMES[usize::from(number) - 1];
    let outcome = match &result {
        Ok(outcome) => outcome.clone(),
        Err(error) => format!("failed: {error}"),
    };
    let entry = JournalEntry {
        node: node.id,
        step: number,
        name: name.to_owned(),
        started_at,
        duration,
        outcome: outcome.clone(),
    };
    let journalled = store.journal(&entry);
    result?;
    journalled?;
    Ok(StepReport { number, name, duration, outcome })
}

/// Enters steps 1 and 2 if the ceremony was cut off between their transaction and the journal.
fn catch_up_journal(store: &Store, node: &Node) -> Result<(), Error> {
    let journal = store.journal_of(node.id)?;
    for (number, name) in (1..=2).zip(STEP_NAMES) {
        if journal.iter().all(|entry| entry.step != number) {
            store.journal(&JournalEntry {
                node: node.id,
                step: number,
                name: name.to_owned(),
                started_at: node.created_at,
                duration: Duration::ZERO,
                outcome: "done; cut off before its duration was noted".to_owned(),
            })?;
        }
    }
    Ok(())
}

/// Works on one node, step by step.
pub(super) struct Steps<'a> {
    store: &'a Store,
    id: AkmId,
    target: &'a Target,
    keyring: &'a Keyring,
    /// What step 3 installed.
    release: Option<Release>,
    /// What the operator should know when it is all done.
    pub(super) notes: Vec<OfCeremony>,
}

impl<'a> Steps<'a> {
    pub(super) fn new(by: Provisioner<'a>, id: AkmId, target: &'a Target) -> Self {
        let Provisioner { store, keyring } = by;
        Self { store, keyring, id, target, release: None, notes: Vec::new() }
    }

    fn node(&self) -> Result<Node, Error> {
        Ok(self.store.node(self.id)?)
    }

    /// Step 3: the stack, staged and proved beside what is there, then switched to.
    pub(super) fn install(&mut self) -> Result<String, Error> {
        let node = self.node()?;
        let release = release_of(&node, self.target)?;
        let staged = self.target.stage(&release)?;
        self.leave_others_alone(&node)?;
        // Whatever runs there would hold the state that step 4 needs.
        self.target.stop()?;
        self.target.switch(&staged)?;
        // Before the element is asked for anything there: what it needs beside itself comes along.
        luggage::deliver(self.store, &node, self.target)?;
        if let Some(stack) = &node.stack {
            self.store.save_stack(self.id, stack, staged.version())?;
        }
        self.release = Some(release);
        let how = if staged.uploaded() { "sent and proved" } else { "was there, proved" };
        Ok(format!("{}, release {} {how}", staged.version(), staged.release()))
    }

    /// Another ceremony, perhaps of another module, may have come first while this one was under way or cut off:
    /// its node is neither stopped nor given another stack. A device that does not say whose it is, is ours to mend.
    fn leave_others_alone(&self, node: &Node) -> Result<(), Error> {
        let Some(output) = self.target.akmd_if_installed(&["enroll", "--prepare"], &[])? else {
            return Ok(());
        };
        match output.code {
            Some(0) => self.check_ours(node, &read_preparation(&output.stdout)?),
            Some(_) => Ok(()),
            None => {
                let (target, dir) = (self.target.url().to_string(), self.target.dir().to_owned());
                Err(Refusal::from(Device::Killed { target, dir }).into())
            }
        }
    }

    /// Refuses a device that is the node of another module, or another node of this one.
    fn check_ours(&self, node: &Node, preparation: &Preparation) -> Result<(), Error> {
        if let Some(existing) = preparation.node
            && existing.provisioner != self.store.module().root
        {
            let (module, node) = (existing.provisioner, existing.node);
            return Err(Refusal::from(Device::AnotherModule { module, node }).into());
        }
        let own: Vec<AkmId> = std::iter::once(node.id).chain(node.replaces).collect();
        check_element(self.store, preparation, &own)
    }

    /// Step 4: the relationship, into the element of the target.
    pub(super) fn store(&mut self) -> Result<String, Error> {
        let node = self.node()?;
        self.target.stop()?;
        let preparation = self.prepare()?;
        let element = &preparation.element;
        self.check_ours(&node, &preparation)?;
        let relationship = self
            .store
            .relationship(node.relationship)?
            .ok_or_else(|| super::not_in_store("the relationship of this node"))?;
        let release = self.release.as_ref().ok_or_else(|| super::not_in_store("what step 3 installed"))?;
        let code = expected_integrity(release, element);
        let holds_it = preparation.node.is_some_and(|existing| existing.relationship == node.relationship);
        let arrived = luggage::is_filled(self.store, &node)? && !luggage::is_at_station(&node);
        if arrived {
            check_arrived(&node, element, holds_it)?;
        }
        let acknowledged =
            arrived || self.store.ceremony(self.id)?.is_some_and(|ceremony| ceremony.completed >= 4);
        if holds_it && acknowledged {
            self.store.save_integrity_code(self.id, &code)?;
            return Ok(format!("element {} {} holds it already", element.kind, element.serial));
        }
        let keys = self.keyring.wrap_keys(self.store, element)?;
        let (envelope, root, host_part) = self.envelope(&node, &relationship.sds, &preparation, &keys)?;
        let output = self.target.akmd(&["enroll"], envelope.expose())?;
        match output.code {
            Some(0) => {}
            Some(4) if keys.card.is_some() => {
                let (target, words) = (self.target.url().to_string(), output.last_words());
                return Err(Refusal::from(AtElement::Card { target, words }).into());
            }
            Some(4) => return Err(element_refused(self.target, &output)),
            _ => return Err(stack_failed(self.target, "take the relationship", &output)),
        }
        let receipt = tagged_line(&output.stdout, "akm-receipt:")?;
        let expected = Proof::receipt(relationship.sds.digest(), &host_part, envelope.expose());
        if !expected.by_root(&root).equals(&receipt) {
            return Err(Refusal::from(AtElement::Receipt).into());
        }
        self.store.save_element(self.id, element)?;
        if let Some(card) = &keys.card {
            self.store.save_card_keys(element, card)?;
        }
        self.store.save_integrity_code(self.id, &code)?;
        self.store.set_member_state(node.relationship, self.store.module().root, MemberState::Installed)?;
        self.store.set_member_state(node.relationship, self.id, MemberState::Installed)?;
        if element.protection == akm_core::element::Protection::Software {
            self.notes.push(OfCeremony::SoftwareElement { node: node.name.clone() });
        }
        Ok(format!("element {} {}, receipt right", element.kind, element.serial))
    }

    /// Step 5: the node itself says who it is, over the network.
    pub(super) fn verify(&mut self) -> Result<String, Error> {
        let node = self.node()?;
        let supervision = self.target.start()?;
        let mut link = Link::open(self.store, &node)?.after_start();
        let identity = link.identify()?;
        verification::check(&node, &identity)?;
        drop(link);
        if supervision == akm_target::Supervision::Background {
            let (node, dir) = (node.name.clone(), self.target.dir().to_owned());
            self.notes.push(OfCeremony::NobodyRestarts { node, dir });
        }
        Ok(format!(
            "AKM ID and provisioning relationship proved at {}",
            node.endpoint.as_ref().map(ToString::to_string).unwrap_or_default()
        ))
    }

    /// Makes a step that was done count: what was cut off before is done again.
    pub(super) fn conclude(&mut self, number: u8) -> Result<(), Error> {
        if number < STEPS { Ok(self.store.complete_step(self.id, number)?) } else { self.activate() }
    }

    fn activate(&mut self) -> Result<(), Error> {
        let node = self.node()?;
        // It has proved to be at its target.
        luggage::clear(&node)?;
        // First: once the node is active no command comes back to this.
        self.store.erase_secrets(node.relationship)?;
        let now = Timestamp::now();
        let replaced = node.replaces.map(|old| self.store.node(old)).transpose()?;
        match replaced.filter(|old| old.status.is_in_force()) {
            Some(old) => {
                forget_card(self.store, &old)?;
                self.store.replace_node(old.id, self.id, now)?;
            }
            None => self.store.activate_node(self.id, now)?,
        }
        Ok(())
    }

    fn prepare(&self) -> Result<Preparation, Error> {
        let output = self.target.akmd(&["enroll", "--prepare"], &[])?;
        match output.code {
            Some(0) => read_preparation(&output.stdout),
            Some(4) => Err(element_refused(self.target, &output)),
            _ => Err(stack_failed(self.target, "answer", &output)),
        }
    }

    /// What `akmd enroll` reads, and what its receipt must be made of: the root, and SHA-256 of the host part.
    fn envelope(
        &self,
        node: &Node,
        sds: &SynchronizedDataSet,
        preparation: &Preparation,
        keys: &WrapKeys,
    ) -> Result<(SecretBytes, ElementRoot, [u8; 32]), Error> {
        let replaces =
            preparation.node.map(|existing| existing.relationship).filter(|id| *id != sds.relationship());
        let gone = || Refusal::from(Device::SecretsGone { name: node.name.clone() });
        let secrets = self.store.secrets(node.relationship)?;
        let part = secrets.host_part().ok_or_else(gone)?;
        let root = secrets.element_root.ok_or_else(gone)?;
        let root_check = RootCheck::of(&root);
        let name = sds.root(root_check);
        let erase = preparation.leftovers.iter().copied().filter(|leftover| *leftover != name).collect();
        let install = Install {
            public_part: sds.emit(),
            wrapped_root: Some(wrap(name, &root, &preparation.element, &preparation.material, keys)?),
            root_check,
            host_part: seal_host_part(&part, &root, sds, node.id),
            label: format!("provisioning by {}", self.store.module().name),
            member_labels: vec![self.store.module().name.to_string(), node.name.to_string()],
            endpoints: Vec::new(),
        };
        let envelope =
            Envelope { node: node.id, name: node.name.to_string(), install: install.emit(), replaces, erase };
        Ok((envelope.emit(), root, part.digest()))
    }
}

/// The stack of a node with the node's own configuration.
pub(super) fn release_of(node: &Node, target: &Target) -> Result<Release, Error> {
    let path =
        node.stack.as_ref().ok_or_else(|| super::not_in_store(format!("the stack of node {}", node.name)))?;
    let stack = Stack::load(path)?;
    let listen = node.listen.map_or_else(|| NO_ADDRESS.to_owned(), |listen| listen.to_string());
    let config = configuration(&listen, &node.element_spec);
    Ok(stack.release(&config, target.dir()))
}

/// The `akmd.toml` of a node: the address that it listens on, and its element.
pub fn configuration(listen: &str, element: &ElementSpec) -> String {
    format!(
        "# Made by akm; changes show in the integrity code.\nlisten = {}\nelement = {}\n",
        toml_text(listen),
        toml_text(&element.to_string())
    )
}

/// A basic string of TOML. JSON strings are such strings, but for one control character that JSON lets stand.
fn toml_text(text: &str) -> String {
    serde_json::Value::from(text).to_string().replace('\u{7f}', "\\u007f")
}

/// Whether the element in the target is the one that was filled, with all that belongs to it.
fn check_arrived(node: &Node, element: &Description, holds_it: bool) -> Result<(), Error> {
    let filled = node.element.as_ref().map(Description::identity);
    if filled.as_ref() != Some(&element.identity()) {
        let (element, name) = (text_of(element), node.name.clone());
        return Err(Refusal::from(AtElement::NotTheFilled { element, name }).into());
    }
    if !holds_it {
        return Err(Refusal::from(Device::NotArrived).into());
    }
    Ok(())
}

/// The integrity code that a node with this release and element must show.
fn expected_integrity(release: &Release, element: &Description) -> [u8; 32] {
    let files: Vec<StackFile> = release
        .files()
        .iter()
        .map(|file| StackFile { path: file.path.to_owned(), mode: file.mode, sha256: file.sha256 })
        .collect();
    integrity_code(&files, &element.identity())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_control_character_stands_in_a_configuration_as_it_is() {
        let path = "/etc/akm/\u{7f}\u{1}\t\"\\pass";
        let element: ElementSpec = format!("software:passphrase-file={path}").parse().unwrap();
        let text = configuration("192.0.2.7:47100", &element);
        let line = text.lines().last().unwrap();
        assert_eq!(line, r#"element = "software:passphrase-file=/etc/akm/\u007f\u0001\t\"\\pass""#);
        assert_eq!(text.lines().count(), 3);
    }
}
