//! Questions to the element, and whatever stands in for it until it has answered.
//!
//! The core asks an element by calling it. Here it is given a [`StandIn`] made of the answers at hand. Where one is
//! missing the call ends with [`ElementError::Unanswered`] and leaves everything as it was; the question goes out, and
//! when its answer is there the same is tried again. Randomness that was drawn for the first try serves the second, so that it
//! asks the same.

use alloc::string::String;
use alloc::vec::Vec;

use akm_core::element::{
    Description, ElementError, ElementTime, Label, MonotonicCounter, ProvisionableElement, Root,
    SecureElement,
};
use akm_core::secret::Secret;
use akm_core::session::RandomSource;
use zeroize::Zeroizing;

use crate::time::Share;

/// Names a question or a write that is out; each once in the life of a node.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Ticket(pub(crate) u64);

/// What a node asks its element, or for [`Question::Integrity`] its installation.
#[derive(Clone, Debug)]
pub enum Question {
    /// [`ProvisionableElement::description`].
    Describe,
    /// [`MonotonicCounter::value`], if it has a counter.
    Count,
    /// [`MonotonicCounter::count_up`], if it has a counter.
    CountUp,
    /// [`SecureElement::random`], so many bytes.
    Random(usize),
    /// [`SecureElement::derive`].
    Derive {
        /// Under which root.
        root: Root,
        /// What for.
        label: Label,
        /// At most 32 bytes.
        context: Vec<u8>,
    },
    /// [`ProvisionableElement::prepare`].
    Prepare,
    /// [`ProvisionableElement::install`].
    Install {
        /// Its name.
        root: Root,
        /// Wrapped for this element.
        wrapped: Zeroizing<Vec<u8>>,
    },
    /// [`ProvisionableElement::erase`].
    Erase(Root),
    /// [`ProvisionableElement::roots`].
    Roots,
    /// The integrity code of this stack with this element: not for the element.
    Integrity,
}

/// What is answered to a [`Question`].
#[derive(Debug)]
pub enum Answer {
    /// To `Install` and `Erase`.
    Done,
    /// To `Describe`.
    Description(Description),
    /// To `Count` and `CountUp`; `None` without a counter.
    Count(Option<u64>),
    /// To `Random` and `Prepare`.
    Bytes(Zeroizing<Vec<u8>>),
    /// To `Derive`.
    Derived(Secret<32>),
    /// To `Roots`.
    Roots(Vec<Root>),
    /// To `Integrity`; or why there is none, in words.
    Integrity(Result<[u8; 32], String>),
}

impl Question {
    /// Puts it to an element that can be called. `None` for [`Question::Integrity`].
    pub fn put_to(&self, element: &mut dyn ProvisionableElement) -> Option<Result<Answer, ElementError>> {
        let counted = |count: Result<u64, ElementError>| count.map(|count| Answer::Count(Some(count)));
        Some(match self {
            Self::Describe => Ok(Answer::Description(element.description())),
            Self::Count => match element.counter() {
                Some(counter) => counted(counter.value()),
                None => Ok(Answer::Count(None)),
            },
            Self::CountUp => match element.counter() {
                Some(counter) => counted(counter.count_up()),
                None => Ok(Answer::Count(None)),
            },
            Self::Random(length) => {
                let mut bytes = Zeroizing::new(alloc::vec![0; *length]);
                element.random(&mut bytes).map(|()| Answer::Bytes(bytes))
            }
            Self::Derive { root, label, context } => {
                element.derive(*root, *label, context).map(Answer::Derived)
            }
            Self::Prepare => element.prepare().map(|material| Answer::Bytes(material.into())),
            Self::Install { root, wrapped } => element.install(*root, wrapped).map(|()| Answer::Done),
            Self::Erase(root) => element.erase(*root).map(|()| Answer::Done),
            Self::Roots => element.roots().map(Answer::Roots),
            Self::Integrity => return None,
        })
    }

    /// Whether an answer to the other answers this.
    fn is(&self, other: &Self) -> bool {
        match (self, other) {
            (Self::Random(length), Self::Random(other)) => length == other,
            (
                Self::Derive { root, label, context },
                Self::Derive { root: other_root, label: other_label, context: other_context },
            ) => root == other_root && label == other_label && context == other_context,
            (Self::Install { root, .. }, Self::Install { root: other, .. })
            | (Self::Erase(root), Self::Erase(other)) => root == other,
            _ => core::mem::discriminant(self) == core::mem::discriminant(other),
        }
    }
}

/// What was asked, and answered so far. Wiped when it is dropped.
#[derive(Debug, Default)]
pub(crate) struct Answers(Vec<Asked>);

#[derive(Debug)]
struct Asked {
    question: Question,
    ticket: Ticket,
    answer: Option<Result<Answer, ElementError>>,
}

impl Answers {
    /// The ticket under which a question was asked, and its answer if that is here.
    pub(crate) fn to(&self, question: &Question) -> Option<(Ticket, Option<&Result<Answer, ElementError>>)> {
        let asked = self.0.iter().find(|asked| asked.question.is(question))?;
        Some((asked.ticket, asked.answer.as_ref()))
    }

    pub(crate) fn asked(&mut self, question: Question, ticket: Ticket) {
        self.0.push(Asked { question, ticket, answer: None });
    }

    pub(crate) fn take_in(&mut self, ticket: Ticket, answer: Result<Answer, ElementError>) {
        if let Some(asked) = self.0.iter_mut().find(|asked| asked.ticket == ticket) {
            asked.answer = Some(answer);
        }
    }

    pub(crate) fn is_out(&self, ticket: Ticket) -> bool {
        self.0.iter().any(|asked| asked.ticket == ticket && asked.answer.is_none())
    }

    pub(crate) fn out(&self) -> usize {
        self.0.iter().filter(|asked| asked.answer.is_none()).count()
    }

    pub(crate) fn has_answered(&self) -> bool {
        self.0.iter().any(|asked| asked.answer.is_some())
    }

    /// Wipes what was answered.
    pub(crate) fn forget_answered(&mut self) {
        self.0.retain(|asked| asked.answer.is_none());
    }
}

/// The element, as far as it has answered.
pub(crate) struct StandIn<'a> {
    answers: &'a Answers,
    description: Option<&'a Description>,
    /// The first question that has no answer yet.
    pub(crate) missing: Option<Question>,
    /// Its time, where account is kept of it.
    time: Option<Share<'a>>,
}

impl<'a> StandIn<'a> {
    pub(crate) fn new(answers: &'a Answers, description: Option<&'a Description>) -> Self {
        Self { answers, description, missing: None, time: None }
    }

    /// The same for a relationship, to which others that have not authenticated send.
    pub(crate) fn with_time(self, time: Share<'a>) -> Self {
        Self { time: Some(time), ..self }
    }

    fn ask(&mut self, question: Question) -> Result<&'a Answer, ElementError> {
        match self.answers.to(&question) {
            Some((_, Some(Ok(answer)))) => Ok(answer),
            Some((_, Some(Err(error)))) => Err(error.clone()),
            _ => {
                self.missing.get_or_insert(question);
                Err(ElementError::Unanswered)
            }
        }
    }

    fn count(&mut self, question: Question) -> Result<u64, ElementError> {
        match self.ask(question)? {
            Answer::Count(Some(count)) => Ok(*count),
            _ => Err(astray()),
        }
    }
}

/// An answer that is none to what was asked.
pub(crate) fn astray() -> ElementError {
    ElementError::Refused(String::from("it answered something else than it was asked"))
}

impl SecureElement for StandIn<'_> {
    fn derive(&mut self, root: Root, label: Label, context: &[u8]) -> Result<Secret<32>, ElementError> {
        match self.ask(Question::Derive { root, label, context: context.to_vec() })? {
            Answer::Derived(secret) => Ok(secret.duplicate()),
            _ => Err(astray()),
        }
    }

    fn random(&mut self, out: &mut [u8]) -> Result<(), ElementError> {
        match self.ask(Question::Random(out.len()))? {
            Answer::Bytes(bytes) if bytes.len() == out.len() => {
                out.copy_from_slice(bytes);
                Ok(())
            }
            _ => Err(astray()),
        }
    }

    fn time(&mut self) -> Option<&mut dyn ElementTime> {
        self.time.as_mut().map(|time| time as &mut dyn ElementTime)
    }
}

impl MonotonicCounter for StandIn<'_> {
    fn value(&mut self) -> Result<u64, ElementError> {
        self.count(Question::Count)
    }

    fn count_up(&mut self) -> Result<u64, ElementError> {
        self.count(Question::CountUp)
    }
}

impl ProvisionableElement for StandIn<'_> {
    fn description(&self) -> Description {
        self.description.expect("it is asked for first").clone()
    }

    fn prepare(&mut self) -> Result<Vec<u8>, ElementError> {
        match self.ask(Question::Prepare)? {
            Answer::Bytes(bytes) => Ok(bytes.to_vec()),
            _ => Err(astray()),
        }
    }

    fn make_device_key(&mut self) -> Result<(), ElementError> {
        Err(astray())
    }

    fn install(&mut self, root: Root, wrapped: &[u8]) -> Result<(), ElementError> {
        self.ask(Question::Install { root, wrapped: wrapped.to_vec().into() }).map(|_| ())
    }

    fn erase(&mut self, root: Root) -> Result<(), ElementError> {
        self.ask(Question::Erase(root)).map(|_| ())
    }

    fn roots(&mut self) -> Result<Vec<Root>, ElementError> {
        match self.ask(Question::Roots)? {
            Answer::Roots(roots) => Ok(roots.clone()),
            _ => Err(astray()),
        }
    }

    fn counter(&mut self) -> Option<&mut dyn MonotonicCounter> {
        self.description?.counter.then_some(self)
    }
}

/// What was drawn for something that is tried again.
#[derive(Debug, Default)]
pub(crate) struct Tape(Zeroizing<Vec<u8>>);

impl Tape {
    /// Plays what was drawn before, then goes on drawing.
    pub(crate) fn over<'a>(&'a mut self, source: &'a mut dyn RandomSource) -> Taped<'a> {
        Taped { tape: self, at: 0, source }
    }
}

pub(crate) struct Taped<'a> {
    tape: &'a mut Tape,
    at: usize,
    source: &'a mut dyn RandomSource,
}

impl RandomSource for Taped<'_> {
    fn fill(&mut self, out: &mut [u8]) {
        let until = self.at + out.len();
        if self.tape.0.len() < until {
            // Moved by hand, so that no copy is left behind.
            let mut longer = Zeroizing::new(Vec::with_capacity(until));
            longer.extend_from_slice(&self.tape.0);
            let drawn = longer.len();
            longer.resize(until, 0);
            self.source.fill(&mut longer[drawn..]);
            self.tape.0 = longer;
        }
        out.copy_from_slice(&self.tape.0[self.at..until]);
        self.at = until;
    }
}
