//! The node of an installation: [`akm_host::Node`] with the disk, the element and the words of this machine.
//!
//! It takes frames and wishes, makes durable what the node wants written, has its element asked on a thread, and gives
//! what is to be sent or delivered to a [`Network`]. It opens no socket.

mod disk;
mod element;
mod start;
mod status;
mod words;

pub use start::{Prepared, whose};
pub use status::description_of;

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::Arc;

use akm_core::id::{AkmId, RelationshipId};
use akm_core::lineage::Lineage;
use akm_core::sds::Kind;
use akm_core::session::Instant;
use akm_element::SystemRandom;
use akm_host::{Endpoint, Event, GenerationId, Input, Known, Output, StartFailed, Surroundings, WriteFailed};
use tokio::sync::Notify;

pub use akm_host::{Message, Refused, Stream, Wish};

use crate::config::Config;
use crate::error::{AsrTrouble, NodeError, Request, StackTrouble};
use crate::layout::Layout;
use crate::storage::{IdentityRecord, Storage};
use element::ElementThread;
use start::for_each;
use words::{no_such_member, set_aside, tell, wish_failed};

/// Where what comes out of a node goes.
pub trait Network {
    /// Sends one datagram, as well as the network can.
    fn datagram(&mut self, to: SocketAddr, frame: &[u8]);

    /// Sends a frame over a stream.
    fn reply(&mut self, stream: Stream, frame: &[u8]);

    /// Whoever speaks over this stream is a module of this node.
    fn proven(&mut self, stream: Stream);

    /// A stream is to be closed, when all is sent that was said over it.
    fn close(&mut self, stream: Stream);

    /// All is said that comes of the oldest frame of this stream.
    fn handled(&mut self, stream: Stream);

    /// Gives a message to the applications that listen.
    fn deliver(&mut self, message: Message<'_>);

    /// Tells what became of a frame to those who watch.
    fn seen(&mut self, frame: SeenFrame<'_>);

    /// What became of a wish of an application: see [`Node::wish_failed`].
    fn done(&mut self, wish: Wish, result: Result<(), Refused>);
}

/// A network where nobody is.
struct Nobody;

impl Network for Nobody {
    fn datagram(&mut self, _: SocketAddr, _: &[u8]) {}
    fn reply(&mut self, _: Stream, _: &[u8]) {}
    fn proven(&mut self, _: Stream) {}
    fn close(&mut self, _: Stream) {}
    fn handled(&mut self, _: Stream) {}
    fn deliver(&mut self, _: Message<'_>) {}
    fn seen(&mut self, _: SeenFrame<'_>) {}
    fn done(&mut self, _: Wish, _: Result<(), Refused>) {}
}

/// A frame that came off the network, and its fate.
#[derive(Clone, Copy, Debug)]
pub struct SeenFrame<'a> {
    /// The relationship, if one claims the frame.
    pub relationship: Option<RelationshipId>,
    /// Where it came from.
    pub source: SocketAddr,
    /// As sealed.
    pub frame: &'a [u8],
    /// `accepted`, or the name of the reason why it was dropped.
    pub verdict: &'static str,
}

/// A running node.
pub struct Node {
    layout: Layout,
    config: Config,
    // Closed before the lock in `storage` is let go of.
    element: ElementThread,
    storage: Storage,
    identity: IdentityRecord,
    host: akm_host::Node,
    /// Why generations are set aside, in words.
    set_aside: BTreeMap<GenerationId, String>,
    clock: std::time::Instant,
    /// The latest write that failed.
    not_written: Option<NodeError>,
    not_started: Option<StartFailed>,
    wishes: u64,
}

impl Node {
    /// Who this node is.
    pub fn identity(&self) -> &IdentityRecord {
        &self.identity
    }

    /// The configuration that it was started with.
    pub fn config(&self) -> &Config {
        &self.config
    }

    /// Whether its module has erased it: it has nothing more to do.
    pub fn is_disowned(&self) -> bool {
        self.host.is_disowned()
    }

    /// When [`Node::act`] has something to do; `None`: when something else happens.
    pub fn timeout(&self) -> Option<std::time::Instant> {
        self.host.timeout().map(|due| self.clock + due.0)
    }

    /// Lets relationships act whose time has come; then [`Node::timeout`] may say that there is more to do at once.
    pub fn act(&mut self, network: &mut dyn Network) {
        self.input(Input::Timeout, network);
    }

    /// Told when the element has answered: then call [`Node::take_answers`].
    pub fn answered(&self) -> Arc<Notify> {
        self.element.answered()
    }

    /// Goes on with what the element has answered.
    pub fn take_answers(&mut self, network: &mut dyn Network) {
        while let Some((ticket, result)) = self.element.answer() {
            self.input(Input::Answered { ticket, result }, network);
        }
    }

    /// Goes on until the element has answered all that it was asked, however long that takes.
    pub fn wait_for_element(&mut self, network: &mut dyn Network) {
        while let Some((ticket, result)) = self.element.wait() {
            self.input(Input::Answered { ticket, result }, network);
        }
    }

    /// Takes a datagram: frames of communication relationships.
    pub fn take_datagram(&mut self, frame: &[u8], source: SocketAddr, network: &mut dyn Network) {
        self.input(Input::Datagram { from: Endpoint::from(source), frame }, network);
    }

    /// Takes a frame off a stream: management. Ends in [`Network::handled`].
    pub fn take_stream_frame(&mut self, stream: Stream, frame: &[u8], network: &mut dyn Network) {
        self.input(Input::StreamFrame { stream, frame }, network);
    }

    /// Nobody listens at a stream any more.
    pub fn close_stream(&mut self, stream: Stream, network: &mut dyn Network) {
        self.input(Input::StreamClosed { stream }, network);
    }

    /// A name for a wish that none had before.
    pub fn wish(&mut self) -> Wish {
        self.wishes += 1;
        Wish(self.wishes)
    }

    /// Seals a message of an application, and sends it to every other member or to the one named. Ends in
    /// [`Network::done`], unless it fails here.
    pub fn wish_to_send(
        &mut self,
        wish: Wish,
        asr: &str,
        to: Option<&str>,
        body: &[u8],
        network: &mut dyn Network,
    ) -> Result<(), NodeError> {
        let relationship = self.find(asr)?;
        let to = to.map(|member| self.find_member(relationship, asr, member)).transpose()?;
        self.input(Input::Send { wish, relationship, to, body }, network);
        Ok(())
    }

    /// Begins the next epoch of a relationship as soon as its policy allows. Ends in [`Network::done`], unless it fails
    /// here.
    pub fn wish_to_advance(
        &mut self,
        wish: Wish,
        asr: &str,
        network: &mut dyn Network,
    ) -> Result<(), NodeError> {
        let relationship = self.find(asr)?;
        self.input(Input::Advance { wish, relationship }, network);
        Ok(())
    }

    /// Why a wish was not carried out, in words.
    pub fn wish_failed(&mut self, asr: &str, refused: Refused) -> NodeError {
        match refused {
            Refused::NotRecorded(failed) => self.written_in_vain(&failed),
            Refused::Session(error) => {
                let rests = self.find(asr).ok().and_then(|id| self.rests(id));
                wish_failed(asr, error, rests)
            }
            refused => NodeError::Asr { asr: asr.to_owned(), trouble: AsrTrouble::Refused(refused) },
        }
    }

    /// The communication relationship that an application means, by label or ID.
    pub fn find(&self, asr: &str) -> Result<RelationshipId, NodeError> {
        let wanted = asr.parse::<RelationshipId>().ok();
        let is_called =
            |lineage: &Lineage<Known>| lineage.in_force().is_some_and(|(_, known)| known.label == asr);
        let mut found = self.host.relationships().filter(|(id, kind, lineage)| {
            *kind == Kind::Communication && (wanted == Some(*id) || is_called(lineage))
        });
        match (found.next(), found.next()) {
            (Some((id, ..)), None) => Ok(id),
            (Some(_), Some(_)) => Err(Request::SeveralAsrs { asr: asr.to_owned() }.into()),
            (None, _) => {
                let are_set_aside = !self.host.set_aside().is_empty();
                Err(Request::NoAsr { asr: asr.to_owned(), are_set_aside }.into())
            }
        }
    }

    /// The other member of an ASR that an application means, by label or ID.
    fn find_member(&self, id: RelationshipId, asr: &str, member: &str) -> Result<AkmId, NodeError> {
        let in_force = self.host.lineage(id).and_then(Lineage::in_force);
        let (session, known) =
            in_force.ok_or_else(|| NodeError::Asr { asr: asr.to_owned(), trouble: AsrTrouble::Erased })?;
        let members = session.membership().sds().members();
        let label_of = |at: usize| known.member_labels.get(at).map_or("", String::as_str);
        let wanted = member.parse::<AkmId>().ok();
        let is_meant =
            |at: usize| wanted == Some(members[at]) || label_of(at) == member && !member.is_empty();
        let own = usize::from(session.membership().index());
        let mut meant = (0..members.len()).filter(|at| *at != own && is_meant(*at));
        match (meant.next(), meant.next()) {
            (Some(at), None) => Ok(members[at]),
            (Some(_), Some(_)) => {
                Err(Request::SeveralMembers { asr: asr.to_owned(), member: member.to_owned() }.into())
            }
            (None, _) if is_meant(own) => Err(Request::Itself { member: member.to_owned() }.into()),
            (None, _) => {
                let others = (0..members.len()).filter(|at| *at != own).map(|at| match label_of(at) {
                    "" => members[at].to_string(),
                    label => label.to_owned(),
                });
                Err(no_such_member(asr, member, others))
            }
        }
    }

    fn input(&mut self, input: Input<'_>, network: &mut dyn Network) {
        let now = self.now();
        self.host.handle(input, &mut Surroundings { now, random: &mut SystemRandom });
        self.carry_out(network);
    }

    /// Carries out what the node wants. What it wants written is written here and now, many at once where they come
    /// together.
    fn carry_out(&mut self, network: &mut dyn Network) {
        loop {
            let mut tickets = Vec::new();
            let mut writes = Vec::new();
            loop {
                match self.host.poll() {
                    Output::Idle => break,
                    Output::Persist { ticket, write } => {
                        tickets.push(ticket);
                        writes.push(write);
                    }
                    Output::Ask { ticket, question } => self.element.ask(ticket, question),
                    Output::Send { to, frame, .. } => {
                        for address in to.iter().filter_map(|endpoint| endpoint.socket_address()) {
                            network.datagram(address, frame);
                        }
                    }
                    Output::Reply { stream, frame } => network.reply(stream, frame),
                    Output::Proven { stream } => network.proven(stream),
                    Output::Close { stream } => network.close(stream),
                    Output::Handled { stream } => network.handled(stream),
                    Output::Deliver(message) => network.deliver(message),
                    Output::Seen(seen) => {
                        let (relationship, frame) = (seen.relationship, seen.frame);
                        if let Some(source) = seen.source.socket_address() {
                            let verdict = seen.verdict.name();
                            network.seen(SeenFrame { relationship, source, frame, verdict });
                        }
                    }
                    Output::Done { wish, result } => network.done(wish, result),
                    Output::Event { about, label, event } => {
                        if let (Some(about), Event::SetAside(why)) = (about, &event) {
                            let is_own = about.0 == self.identity.relationship;
                            self.set_aside.insert(about, set_aside(why, is_own));
                        }
                        tell(&self.storage, &self.identity, about, label, &event);
                    }
                    Output::Started => {}
                    Output::NotStarted(why) => self.not_started = Some(why),
                }
            }
            if tickets.is_empty() {
                return;
            }
            let results = disk::carry_out(&self.storage, &self.identity, &writes);
            for (ticket, result) in tickets.into_iter().zip(results) {
                let result = result.map_err(|error| {
                    let failed = WriteFailed { of_the_disk: error.is_of_the_disk(), why: error.to_string() };
                    self.not_written = Some(error);
                    failed
                });
                let now = self.now();
                let mut surroundings = Surroundings { now, random: &mut SystemRandom };
                self.host.handle(Input::Persisted { ticket, result }, &mut surroundings);
            }
        }
    }

    /// The error of a write that failed, as it was.
    fn written_in_vain(&mut self, failed: &WriteFailed) -> NodeError {
        match self.not_written.take_if(|error| error.to_string() == failed.why) {
            Some(error) => error,
            None => StackTrouble::NotWritten { why: failed.why.clone() }.into(),
        }
    }

    fn now(&self) -> Instant {
        Instant(self.clock.elapsed())
    }
}
