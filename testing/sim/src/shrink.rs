//! A failing trace with nothing in it that does not matter.

use crate::action::Action;
use crate::invariant::Invariant;
use crate::run::run;
use crate::trace::Trace;

/// Leaves out actions as long as the same invariant does not hold: first halves, then ever smaller
/// parts, at last single ones (delta debugging). What comes back fails for the same reason, and
/// with any one action less it does not.
pub fn shrink(trace: &Trace, invariant: Invariant) -> Trace {
    let fails = |actions: &[Action]| {
        let candidate = Trace { actions: actions.to_vec(), ..trace.clone() };
        run(&candidate).is_err_and(|violation| violation.invariant == invariant)
    };
    let mut actions = trace.actions.clone();
    let mut part = actions.len().div_ceil(2);
    while part > 0 {
        let mut at = 0;
        let mut left_out = false;
        while at < actions.len() {
            let end = (at + part).min(actions.len());
            let shorter = [&actions[..at], &actions[end..]].concat();
            if fails(&shorter) {
                actions = shorter;
                left_out = true;
            } else {
                at = end;
            }
        }
        if !left_out {
            part = if part == 1 { 0 } else { part.div_ceil(2) };
        }
    }
    Trace { actions, ..trace.clone() }
}
