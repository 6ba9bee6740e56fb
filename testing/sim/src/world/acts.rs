//! What an action does to a world.

use akm_core::frame::{FrameKind, Header};
use akm_core::tree::{LAST_EPOCH, NO_EPOCH};

use super::World;
use crate::action::{Action, Change, Deed};
use crate::bad_member::{Claim, Stance};
use crate::invariant::Violation;
use crate::issue::{elsewhere, relationship_id};
use crate::node::{Node, issue_of};
use crate::random::{Part, Random};

impl World {
    /// Does one thing to the world, and checks all invariants.
    pub fn act(&mut self, action: &Action) -> Result<(), Violation> {
        if self.log.is_some() {
            self.note(&format!("---- {action}"));
        }
        if !self.names_what_is_there(action) {
            return Ok(());
        }
        match action {
            Action::Run(time) => self.run_until(self.now + *time)?,
            Action::Send { node, relationship } => self.send(*node, *relationship)?,
            Action::SendTo { node, relationship, to } => self.send_to(*node, *relationship, Some(*to))?,
            Action::Advance { node, relationship } => self.advance(*node, *relationship)?,
            Action::Activate { node, relationship } => self.activate(*node, *relationship)?,
            Action::Crash { node } => self.crash(*node)?,
            Action::CrashAfter { node, steps } => self.nodes[*node].dies_after(Some(*steps)),
            Action::Start { node } => self.start(*node)?,
            Action::DiskFull { node, full } => self.nodes[*node].disk.fill_up(*full),
            Action::ElementSilent { node, silent } => self.nodes[*node].element.fall_silent(*silent),
            Action::ElementTakes { node, time } => {
                let its = &mut self.nodes[*node];
                (its.element_takes, its.slowest_element) = (*time, its.slowest_element.max(*time));
                self.watch.slows(*node, self.nodes[*node].is_slow());
            }
            Action::DiskTakes { node, time } => {
                self.nodes[*node].disk_takes = *time;
                self.watch.slows(*node, self.nodes[*node].is_slow());
            }
            Action::Move { node } => self.nodes[*node].moves(),
            Action::Erase { node, relationship } => self.erase(*node, *relationship)?,
            Action::Image { node } => {
                let image = self.nodes[*node].disk.clone();
                self.images[*node].push(image);
                self.watch.imaged(*node);
            }
            Action::Restore { node, image } => self.restore(*node, *image)?,
            Action::Clone { node } => self.clone_node(*node),
            Action::Cut { from, to, cut } => self.network.cut(*from, *to, *cut),
            Action::Split { side } => self.network.split(side, self.nodes.len()),
            Action::Join => self.network.join(),
            Action::Loss { in_a_thousand } => self.network.loss = *in_a_thousand,
            Action::Duplicate { in_a_thousand } => self.network.duplication = *in_a_thousand,
            Action::Delay { shortest, longest } => self.network.delay = (*shortest, *longest),
            Action::Leap { node, relationship, epochs } => {
                self.crash(*node)?;
                if let Some(issue) = self.issue_on_disk(*node, *relationship) {
                    self.at(*node, |node, _, issues, aftermath| {
                        node.leap(issue, &issues[issue], *epochs, aftermath);
                    })?;
                }
                self.start(*node)?;
            }
            Action::Replay { frame, to } => {
                let frame = self.intruder.recorded(*frame).map(|(_, frame)| frame);
                self.intrude(*to, frame)?;
            }
            Action::Alter { frame, byte, bits, to } => {
                let frame = self.intruder.alter(*frame, *byte, *bits);
                self.intrude(*to, frame)?;
            }
            Action::Resign { frame, ahead, to } => {
                let Some((issue, _)) = self.intruder.recorded(*frame) else { return Ok(()) };
                let epoch = self.ahead(*to, self.issues[issue].relationship, *ahead);
                let frame = self.intruder.resign(*frame, epoch, &self.issues);
                self.intrude(*to, frame)?;
            }
            Action::Forge { relationship, sender, ahead, to } => {
                let epoch = self.ahead(*to, *relationship, *ahead);
                let frame =
                    self.intruder.forge(&self.issues[self.module.latest(*relationship)], *sender, epoch);
                self.intrude(*to, Some(frame))?;
            }
            Action::Noise { length, to } => {
                let frame = self.intruder.noise(*length);
                self.intrude(*to, Some(frame))?;
            }
            Action::Tagged { relationship, length, to } => {
                let frame = self.intruder.tagged(&self.issues[self.module.latest(*relationship)], *length);
                self.intrude(*to, Some(frame))?;
            }
            Action::Betray { relationship, back, deed, to } => {
                self.betray(*relationship, *back, *deed, *to)?
            }
            Action::Lose { node, relationship } => self.lose(*node, Some(*relationship))?,
            Action::Wipe { node } => self.lose(*node, None)?,
            Action::Change { relationship, change } => self.change(*relationship, *change)?,
            Action::ModuleWorks => self.module_works()?,
            Action::ModuleBackup => self.backup = self.module.clone(),
            Action::ModuleRestore => {
                let Self { module, backup, nodes, .. } = self;
                module.restore(backup, nodes.len());
            }
            Action::Settle => self.settle(None)?,
            Action::SettleAlone { node } => self.settle(Some(*node))?,
        }
        Ok(())
    }

    /// Whether the nodes and relationships that an action names exist.
    fn names_what_is_there(&self, action: &Action) -> bool {
        let (nodes, relationships): (&[usize], &[usize]) = match action {
            Action::Send { node, relationship }
            | Action::Advance { node, relationship }
            | Action::Activate { node, relationship }
            | Action::Leap { node, relationship, .. }
            | Action::Forge { relationship, to: node, .. }
            | Action::Lose { node, relationship }
            | Action::Erase { node, relationship }
            | Action::Betray { relationship, to: node, .. }
            | Action::Change { relationship, change: Change::Add { node } | Change::Remove { node } }
            | Action::Tagged { relationship, to: node, .. } => (&[*node], &[*relationship]),
            Action::Change { relationship, change: Change::Renew { .. } } => (&[], &[*relationship]),
            Action::Crash { node }
            | Action::CrashAfter { node, .. }
            | Action::Start { node }
            | Action::DiskFull { node, .. }
            | Action::ElementSilent { node, .. }
            | Action::ElementTakes { node, .. }
            | Action::DiskTakes { node, .. }
            | Action::Move { node }
            | Action::Image { node }
            | Action::Restore { node, .. }
            | Action::Clone { node }
            | Action::Replay { to: node, .. }
            | Action::Alter { to: node, .. }
            | Action::Resign { to: node, .. }
            | Action::Wipe { node }
            | Action::Noise { to: node, .. }
            | Action::SettleAlone { node } => (&[*node], &[]),
            Action::SendTo { node, relationship, to } => (&[*node, *to], &[*relationship]),
            Action::Cut { from, to, .. } => (&[*from, *to], &[]),
            Action::Split { side } => (side, &[]),
            Action::Run(_)
            | Action::Join
            | Action::Loss { .. }
            | Action::Duplicate { .. }
            | Action::Delay { .. }
            | Action::ModuleWorks
            | Action::ModuleBackup
            | Action::ModuleRestore
            | Action::Settle => (&[], &[]),
        };
        nodes.iter().all(|node| *node < self.nodes.len())
            && relationships.iter().all(|number| *number < self.setup.relationships.len())
    }

    /// The epoch that lies this far ahead of a node.
    fn ahead(&self, node: usize, relationship: usize, ahead: u32) -> u32 {
        let epoch = self.epoch(node, relationship);
        let next = if epoch == NO_EPOCH { 0 } else { epoch };
        next.saturating_add(ahead).min(LAST_EPOCH)
    }

    /// A bad member sends to one node. Who has no keys of the issue has none of its frames either.
    fn betray(&mut self, relationship: usize, back: usize, deed: Deed, to: usize) -> Result<(), Violation> {
        let of_relationship = |issue: &usize| self.issues[*issue].relationship == relationship;
        let Some(issue) = (0..self.issues.len()).rev().filter(of_relationship).nth(back) else {
            return Ok(());
        };
        let behind_or_ahead = |ahead: i64| {
            let epoch = self.epoch(to, relationship);
            let from = if epoch == NO_EPOCH { -1 } else { i64::from(epoch) };
            (from + ahead).clamp(0, LAST_EPOCH.into()) as u32
        };
        let stance = |run, ahead: Option<i64>| Stance { run, epoch: ahead.map_or(NO_EPOCH, behind_or_ahead) };
        let its = &self.issues[issue];
        let frame = match deed {
            Deed::Frame { kind, sender, ahead, salt, counter } => {
                let salt = salt.or_else(|| self.intruder.last_salt_of(issue, sender)).unwrap_or(0);
                let claim = Claim { sender, epoch: behind_or_ahead(ahead), salt, counter };
                self.messages += 1;
                let body = match kind {
                    FrameKind::Hello => String::new(),
                    _ => format!("message {} of a bad member", self.messages),
                };
                let frame = self.bad_member.frame(its, claim, kind, body.as_bytes());
                if let Some(header) = frame.as_ref().and_then(|frame| Header::parse(frame).ok()) {
                    self.watch.forged(self.now, issue, &header, kind, body.into_bytes());
                }
                frame
            }
            Deed::Request { sender, run, ahead } => {
                let asked = its.members.iter().position(|member| *member == self.nodes[to].identity);
                let stance = stance(run, ahead);
                asked.and_then(|asked| self.bad_member.request(its, sender, asked as u16, stance))
            }
            Deed::Answer { frame, responder, run, ahead } => {
                let heard = self.intruder.recorded(frame).filter(|(of, _)| *of == issue);
                let stance = stance(run, ahead);
                heard.and_then(|(_, heard)| self.bad_member.answer(its, &heard, responder, stance))
            }
        };
        self.watch.betrayed(issue);
        self.intrude(to, frame)
    }

    /// The issue of a relationship that is active on the disk of a node, or the highest.
    fn issue_on_disk(&self, node: usize, relationship: usize) -> Option<usize> {
        let disk = &self.nodes[node].disk;
        let of_relationship = disk.generations().filter(|((id, _), _)| *id == relationship_id(relationship));
        let (_, sds) = of_relationship.max_by_key(|(of, _)| (disk.is_active(*of), of.1))?;
        issue_of(&self.issues, sds.digest())
    }

    fn lose(&mut self, node: usize, relationship: Option<usize>) -> Result<(), Violation> {
        self.crash(node)?;
        for issue in 0..self.issues.len() {
            let its = &self.issues[issue];
            let Node { disk, .. } = &mut self.nodes[node];
            let is_there = disk.generations().any(|(_, sds)| sds.digest() == its.sds.digest());
            if is_there && relationship.is_none_or(|relationship| its.relationship == relationship) {
                disk.lose_place(its.id());
                self.watch.lost(node, issue);
            }
        }
        Ok(())
    }

    fn restore(&mut self, node: usize, back: usize) -> Result<(), Violation> {
        let Some(last) = self.images[node].len().checked_sub(1) else { return Ok(()) };
        let image = last - back.min(last);
        self.crash(node)?;
        self.nodes[node].disk.restore(&self.images[node][image]);
        self.watch.restored(node, image);
        Ok(())
    }

    fn clone_node(&mut self, node: usize) {
        let number = self.nodes.len();
        let element = Random::stream(self.setup.seed, Part::Element, number);
        let system = Random::stream(self.setup.seed, Part::System, number);
        let copy = self.nodes[node].copy(element, system);
        self.nodes.push(copy);
        self.images.push(Vec::new());
        self.watch.cloned(node);
    }

    /// The intruder's frames arrive at once, from where no node is.
    fn intrude(&mut self, to: usize, frame: Option<Vec<u8>>) -> Result<(), Violation> {
        match frame {
            Some(frame) => self.arrives(to, elsewhere(), &frame),
            None => Ok(()),
        }
    }
}
