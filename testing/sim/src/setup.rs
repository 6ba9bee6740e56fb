//! A world before anything happens in it, and how a trace writes it.

use std::fmt;

use akm_core::crypto::Suite;
use akm_core::policy::{JUMP_MAX, Policy};

use crate::flaw::Flaw;
use crate::line::{Malformed, milliseconds, number};

/// A world before anything happens in it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Setup {
    /// From it follows everything that is drawn at random.
    pub seed: u64,
    /// The nodes, numbered from 0.
    pub nodes: Vec<NodeSetup>,
    /// The relationships, numbered from 0.
    pub relationships: Vec<RelationshipSetup>,
    /// Whether all relationships bear the tag of the first.
    pub one_tag: bool,
    /// What is wrong with the hosts, where a test wants a world that breaks a promise.
    pub flaw: Option<Flaw>,
}

/// One node.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct NodeSetup {
    /// Whether its element has a counter.
    pub counter: bool,
}

/// One relationship.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RelationshipSetup {
    /// The numbers of its members, ascending. A member's index is its place in this list.
    pub members: Vec<usize>,
    /// When its members move on.
    pub policy: Policy,
    /// Its AEAD.
    pub suite: Suite,
    /// Whether it is active from the beginning, or staged.
    pub active: bool,
}

impl Setup {
    /// Active members of one relationship, at nodes whose elements have counters.
    pub fn of(seed: u64, members: usize, policy: Policy) -> Self {
        Self {
            seed,
            nodes: vec![NodeSetup { counter: true }; members],
            relationships: vec![RelationshipSetup {
                members: (0..members).collect(),
                policy,
                suite: Suite::Aes256Gcm,
                active: true,
            }],
            one_tag: false,
            flaw: None,
        }
    }

    /// Takes one line of a trace; `None` if it says nothing of the setup.
    pub(crate) fn read_line(&mut self, line: &str) -> Option<Result<(), Malformed>> {
        let (verb, rest) = line.split_once(' ').unwrap_or((line, ""));
        Some(match verb {
            "seed" => number(rest).map(|seed| self.seed = seed),
            "node" => match rest {
                "with-counter" => Ok(true),
                "without-counter" => Ok(false),
                _ => Err(Malformed),
            }
            .map(|counter| self.nodes.push(NodeSetup { counter })),
            "relationship" => self.read_relationship(rest),
            "one-tag" => {
                self.one_tag = true;
                Ok(())
            }
            "flaw" => Flaw::named(rest).map(|flaw| self.flaw = Some(flaw)).ok_or(Malformed),
            _ => return None,
        })
    }

    fn read_relationship(&mut self, line: &str) -> Result<(), Malformed> {
        let words: Vec<&str> = line.split_whitespace().collect();
        let [
            "members",
            members,
            "suite",
            suite,
            "rotate-after",
            after,
            "rotate-frames",
            frames,
            "advance-interval",
            interval,
            "overlap",
            overlap,
            ref jump @ ..,
            standing,
        ] = words[..]
        else {
            return Err(Malformed);
        };
        let jump = match jump {
            [] => JUMP_MAX,
            ["jump", jump] => number(jump)?,
            _ => return Err(Malformed),
        };
        let members: Vec<usize> = members.split(',').map(number).collect::<Result<_, _>>()?;
        let known = members.iter().all(|member| *member < self.nodes.len());
        if !known || members.len() < 2 || !members.is_sorted_by(|a, b| a < b) {
            return Err(Malformed);
        }
        self.relationships.push(RelationshipSetup {
            members,
            policy: Policy {
                rotate_after: milliseconds(after)?,
                rotate_frames: number(frames)?,
                advance_interval: milliseconds(interval)?,
                overlap: milliseconds(overlap)?,
                jump,
                ..Policy::default()
            },
            suite: suite_named(suite).ok_or(Malformed)?,
            active: match standing {
                "active" => true,
                "staged" => false,
                _ => return Err(Malformed),
            },
        });
        Ok(())
    }
}

impl fmt::Display for Setup {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "seed {}", self.seed)?;
        for node in &self.nodes {
            writeln!(f, "node {}", if node.counter { "with-counter" } else { "without-counter" })?;
        }
        for relationship in &self.relationships {
            let RelationshipSetup { members, policy, suite, active } = relationship;
            let members: Vec<String> = members.iter().map(usize::to_string).collect();
            writeln!(
                f,
                "relationship members {} suite {} rotate-after {} rotate-frames {} advance-interval {} overlap {}{} {}",
                members.join(","),
                suite_name(*suite),
                policy.rotate_after.as_millis(),
                policy.rotate_frames,
                policy.advance_interval.as_millis(),
                policy.overlap.as_millis(),
                if policy.jump == JUMP_MAX { String::new() } else { format!(" jump {}", policy.jump) },
                if *active { "active" } else { "staged" },
            )?;
        }
        if self.one_tag {
            writeln!(f, "one-tag")?;
        }
        match self.flaw {
            Some(flaw) => writeln!(f, "flaw {}", flaw.name()),
            None => Ok(()),
        }
    }
}

fn suite_name(suite: Suite) -> &'static str {
    match suite {
        Suite::Aes256Gcm => "aes-256-gcm",
        Suite::ChaCha20Poly1305 => "chacha20-poly1305",
    }
}

fn suite_named(name: &str) -> Option<Suite> {
    [Suite::Aes256Gcm, Suite::ChaCha20Poly1305].into_iter().find(|suite| suite_name(*suite) == name)
}
