//! The element on a thread of its own: it takes as long as it likes, and nobody waits for it who does not need it.

use std::sync::Arc;
use std::sync::mpsc::{Receiver, Sender, TryRecvError, channel};
use std::thread::JoinHandle;

use akm_core::element::{ElementError, ProvisionableElement};
use akm_host::{Answer, Question, Ticket};
use tokio::sync::Notify;

use crate::layout::Layout;

/// An element that can be given to a thread.
pub(super) type Element = Box<dyn ProvisionableElement + Send>;

/// What the element said to a question.
pub(super) type Answered = (Ticket, Result<Answer, ElementError>);

/// The thread, and what goes to it and comes from it. How much is out is bounded by whoever asks: see
/// [`akm_host::limits`].
pub(super) struct ElementThread {
    questions: Option<Sender<(Ticket, Question)>>,
    answers: Receiver<Answered>,
    /// Told when there is an answer.
    answered: Arc<Notify>,
    thread: Option<JoinHandle<Element>>,
    out: usize,
}

impl ElementThread {
    /// Gives an element to a thread. The integrity code of the stack is asked of `layout` there, since that reads all of
    /// its files.
    pub(super) fn spawn(element: Element, layout: &Layout) -> std::io::Result<Self> {
        let (questions, to_answer) = channel();
        let (given, answers) = channel();
        let answered = Arc::new(Notify::new());
        let (tell, layout) = (Arc::clone(&answered), layout.clone());
        let thread = std::thread::Builder::new()
            .name("element".to_owned())
            .spawn(move || serve(element, &layout, &to_answer, &given, &tell))?;
        Ok(Self { questions: Some(questions), answers, answered, thread: Some(thread), out: 0 })
    }

    pub(super) fn ask(&mut self, ticket: Ticket, question: Question) {
        // The thread ends only with this.
        if self.questions.as_ref().is_some_and(|questions| questions.send((ticket, question)).is_ok()) {
            self.out += 1;
        }
    }

    /// An answer that is here.
    pub(super) fn answer(&mut self) -> Option<Answered> {
        match self.answers.try_recv() {
            Ok(answer) => {
                self.out -= 1;
                Some(answer)
            }
            Err(TryRecvError::Empty | TryRecvError::Disconnected) => None,
        }
    }

    /// The next answer, however long it takes; `None` if nothing is out.
    pub(super) fn wait(&mut self) -> Option<Answered> {
        if self.out == 0 {
            return None;
        }
        self.out -= 1;
        self.answers.recv().ok()
    }

    /// Comes back when there may be answers.
    pub(super) fn answered(&self) -> Arc<Notify> {
        Arc::clone(&self.answered)
    }

    /// Takes the element back when it is done with what it is doing; what is still to be asked is not asked.
    pub(super) fn stop(&mut self) -> Option<Element> {
        self.questions = None;
        self.thread.take()?.join().ok()
    }
}

impl Drop for ElementThread {
    fn drop(&mut self) {
        // It is closed before the lock of the state is let go of.
        drop(self.stop());
    }
}

fn serve(
    mut element: Element,
    layout: &Layout,
    questions: &Receiver<(Ticket, Question)>,
    answers: &Sender<Answered>,
    answered: &Notify,
) -> Element {
    while let Ok((ticket, question)) = questions.recv() {
        let result = question.put_to(&mut *element).unwrap_or_else(|| {
            let integrity = layout.integrity(&element.description().identity());
            Ok(Answer::Integrity(integrity.map_err(|error| error.to_string())))
        });
        if answers.send((ticket, result)).is_err() {
            break;
        }
        answered.notify_one();
    }
    element
}
