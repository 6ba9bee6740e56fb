//! How tasks are run: each from its beginning, whenever something that it waits for is there.

use crate::door::{Refused, Surroundings};
use crate::node::{Asker, Node, Writer};
use crate::relationship::{Given, Origin};
use crate::task::{Moved, Stop, TaskId, Want, Work};

impl Node {
    pub(crate) fn begin_task(&mut self, work: Work) {
        let alone = match &work {
            Work::Tidy { .. } => true,
            Work::Begin { .. } | Work::Check { .. } => false,
            Work::Request { request, .. } => Self::changes_something(request),
        };
        self.ready.extend(self.tasks.begin(work, alone));
    }

    /// What a task handed to a session came to something.
    pub(crate) fn task_moved_on(&mut self, id: TaskId, result: Result<(), Refused>) {
        if let Some(task) = self.tasks.get_mut(id) {
            task.hand.moved = Moved::Done(result);
            self.ready.push_back(id);
        }
    }

    /// Goes on with a task.
    pub(crate) fn run(&mut self, id: TaskId, surroundings: &mut Surroundings<'_>) {
        let Some(mut task) = self.tasks.take(id) else { return };
        let done = match &task.work {
            Work::Tidy { relationship } => {
                let result = self.tidy_up(&mut task.hand, *relationship, surroundings);
                !matches!(result, Err(Stop::Waits))
            }
            Work::Begin { first } => self.begin_stream(&mut task.hand, first, surroundings),
            Work::Check { of, request } => self.check_request(&mut task.hand, of, request, surroundings),
            Work::Request { of, request } => self.serve_request(&mut task.hand, of, request, surroundings),
        };
        if done {
            self.ready.extend(self.tasks.finish(&task));
            return;
        }
        let wants = task.hand.take_wants();
        self.tasks.put_back(id, task);
        for want in wants {
            match want {
                Want::Ask(question) => {
                    let ticket = self.ask(Asker::Task(id), question.clone());
                    if let Some(task) = self.tasks.get_mut(id) {
                        task.hand.answers.asked(question, ticket);
                    }
                }
                Want::Write(write) => {
                    let kind = write.kind();
                    let ticket = self.write(Writer::Task(id), write);
                    if let Some(task) = self.tasks.get_mut(id) {
                        task.hand.writes(kind, ticket);
                    }
                }
                Want::Activate(relationship, generation) => {
                    self.give(relationship, &Given::Activate(generation), Origin::Task(id), surroundings);
                }
            }
        }
    }
}
