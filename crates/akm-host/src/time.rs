//! The element's time, as far as it is spent on the word of those who have not authenticated: one account over all
//! relationships, which have it in turn (protocol, section 7, "Budget").

use alloc::collections::{BTreeMap, VecDeque};
use alloc::vec::Vec;
use core::time::Duration;

use akm_core::element::{Account, ElementTime};
use akm_core::id::RelationshipId;
use akm_core::session::Instant;

use crate::ask::{Question, Ticket};

/// A relationship that has to wait loses its turn if it does not ask again within this time.
const TURN_LAPSES: Duration = Duration::from_secs(5);

/// What was asked of an element, what that costs, and whose turn it is.
#[derive(Debug)]
pub(crate) struct Time {
    account: Account,
    /// When each question that is out was asked, and whether a derivation was.
    out: BTreeMap<Ticket, (Instant, bool)>,
    /// When the element answered last: it does one thing after the other.
    answered: Instant,
    /// How long its latest derivation took: what one is taken to cost until it is answered.
    usual: Duration,
    allowed: Vec<Allowed>,
    /// Relationships that had to wait, and when each asked last.
    turn: VecDeque<(RelationshipId, Instant)>,
}

/// A call that was allowed, until its answer is used.
#[derive(Debug)]
struct Allowed {
    relationship: RelationshipId,
    what: u32,
    /// `None` until it is asked.
    ticket: Option<Ticket>,
    cost: Duration,
    is_answered: bool,
}

impl Time {
    pub(crate) fn new(now: Instant) -> Self {
        Self {
            account: Account::new(now),
            out: BTreeMap::new(),
            answered: now,
            usual: Duration::ZERO,
            allowed: Vec::new(),
            turn: VecDeque::new(),
        }
    }

    /// What one relationship has of it.
    pub(crate) fn of(&mut self, relationship: RelationshipId) -> Share<'_> {
        Share { time: self, relationship }
    }

    /// A question goes out.
    pub(crate) fn asks(&mut self, ticket: Ticket, question: &Question, now: Instant) {
        self.out.insert(ticket, (now, matches!(question, Question::Derive { .. })));
    }

    /// What a relationship was allowed to ask is out under this ticket; `None`: it could not be asked.
    pub(crate) fn is_asked(&mut self, relationship: RelationshipId, ticket: Option<Ticket>) {
        let account = &mut self.account;
        self.allowed.retain_mut(|allowed| {
            if allowed.relationship != relationship || allowed.ticket.is_some() {
                return true;
            }
            allowed.ticket = ticket;
            if ticket.is_none() {
                account.give_back(allowed.cost);
            }
            ticket.is_some()
        });
    }

    /// The element has answered.
    pub(crate) fn is_answered(&mut self, ticket: Ticket, now: Instant) {
        let Some((asked, derives)) = self.out.remove(&ticket) else { return };
        let began = asked.max(core::mem::replace(&mut self.answered, now));
        if !derives {
            return;
        }
        self.usual = now.0.saturating_sub(began.0);
        for allowed in self.allowed.iter_mut().filter(|allowed| allowed.ticket == Some(ticket)) {
            self.account.give_back(allowed.cost);
            allowed.cost = self.account.charge(self.usual, now);
            allowed.is_answered = true;
        }
    }

    /// The answers that a relationship had are wiped: what they cost is spent.
    pub(crate) fn forget_answered(&mut self, relationship: RelationshipId) {
        self.allowed.retain(|allowed| allowed.relationship != relationship || !allowed.is_answered);
    }

    fn may_ask(&mut self, relationship: RelationshipId, what: u32, now: Instant) -> bool {
        let is_this = |allowed: &Allowed| allowed.relationship == relationship && allowed.what == what;
        if self.allowed.iter().any(is_this) {
            return true;
        }
        self.turn.retain(|(_, asked)| *asked + TURN_LAPSES > now);
        let first = self.turn.front().map(|(first, _)| *first);
        // One after the other: what a call takes is known when it is answered.
        let is_free = self.account.is_open(now) && self.allowed.iter().all(|allowed| allowed.is_answered);
        let is_next = first.is_none_or(|first| first == relationship);
        // Where there is enough for whoever is next too, nobody has to wait.
        if is_free && (is_next || self.account.is_open_after(self.usual, now)) {
            self.turn.retain(|(waits, _)| *waits != relationship);
            let cost = self.account.charge(self.usual, now);
            self.allowed.push(Allowed { relationship, what, ticket: None, cost, is_answered: false });
            return true;
        }
        match self.turn.iter_mut().find(|(waits, _)| *waits == relationship) {
            Some((_, asked)) => *asked = now,
            None => self.turn.push_back((relationship, now)),
        }
        false
    }
}

/// What one relationship has of the element's time.
#[derive(Debug)]
pub(crate) struct Share<'a> {
    time: &'a mut Time,
    relationship: RelationshipId,
}

impl ElementTime for Share<'_> {
    fn may_ask(&mut self, what: u32, now: Instant) -> bool {
        self.time.may_ask(self.relationship, what, now)
    }

    fn made(&mut self, what: u32) -> Duration {
        let is_this = |allowed: &Allowed| allowed.relationship == self.relationship && allowed.what == what;
        match self.time.allowed.iter().position(is_this) {
            Some(at) => self.time.allowed.swap_remove(at).cost,
            None => Duration::ZERO,
        }
    }

    fn give_back(&mut self, cost: Duration) {
        self.time.account.give_back(cost);
    }

    fn pass(&mut self, epoch: u32) {
        let Time { account, allowed, .. } = &mut *self.time;
        allowed.retain(|allowed| {
            let is_passed = allowed.relationship == self.relationship && allowed.what <= epoch;
            if is_passed {
                account.give_back(allowed.cost);
            }
            !is_passed
        });
    }
}
