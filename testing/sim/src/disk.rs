//! A disk in memory, and images of it.

use std::collections::BTreeMap;
use std::sync::Arc;

use akm_core::sds::SynchronizedDataSet;
use akm_host::{Endpoint, Found, GenerationId, Installed, StoredGeneration, Write, WriteFailed};

use crate::issue::is_provisioning;

/// What a node's disk holds. A copy of it is an image.
#[derive(Clone, Debug, Default)]
pub struct Disk {
    kept: BTreeMap<GenerationId, Kept>,
    /// Taken out of use, and not removed yet.
    leftovers: BTreeMap<GenerationId, Kept>,
    disowned: bool,
    full: bool,
    writes: u64,
}

/// The records of one generation.
#[derive(Clone, Debug)]
struct Kept {
    installed: Arc<Installed>,
    place: Option<Vec<u8>>,
    active: bool,
    found_back: u32,
    run: u32,
    learnt: Option<(Vec<String>, Vec<String>)>,
}

impl Disk {
    /// Carries out a write, whole or not at all.
    pub fn write(&mut self, write: Write) -> Result<(), WriteFailed> {
        if self.full {
            return Err(WriteFailed { of_the_disk: true, why: "no space left".to_owned() });
        }
        self.writes += 1;
        match write {
            Write::Place { of, sealed, .. } => self.kept(of)?.place = Some(sealed),
            Write::Active { of } => self.kept(of)?.active = true,
            Write::FoundBack { of, found } => {
                let kept = self.kept(of)?;
                (kept.found_back, kept.run) = (kept.found_back + 1, kept.run.max(found.run));
            }
            Write::Endpoints { of, labels, endpoints } => {
                let text = |endpoint: Option<Endpoint>| endpoint.map(|endpoint| endpoint.to_string());
                let endpoints = endpoints.into_iter().map(|endpoint| text(endpoint).unwrap_or_default());
                self.kept(of)?.learnt = Some((labels, endpoints.collect()));
            }
            Write::Install { installed, sealed, beside } => {
                let of = (installed.sds.relationship(), installed.sds.generation());
                if !beside {
                    self.kept.retain(|(relationship, _), _| *relationship != of.0);
                }
                let active = installed.active;
                let installed = Arc::from(installed);
                let kept =
                    Kept { installed, place: Some(sealed), active, found_back: 0, run: 0, learnt: None };
                self.kept.insert(of, kept);
            }
            Write::KeepGenerations { relationship, kept } => {
                self.kept.retain(|(of, generation), _| *of != relationship || kept.contains(generation));
            }
            Write::Erase { relationship } => {
                let (erased, kept) =
                    std::mem::take(&mut self.kept).into_iter().partition(|((of, _), _)| *of == relationship);
                (self.leftovers, self.kept) = (erased, kept);
            }
            Write::Forget { relationship } => self.leftovers.retain(|(of, _), _| *of != relationship),
            Write::Disown => self.disowned = true,
        }
        Ok(())
    }

    /// What a start finds.
    pub fn found(&self) -> Vec<Found> {
        let found = |((relationship, generation), kept): (&GenerationId, &Kept)| Found {
            relationship: *relationship,
            generation: *generation,
            content: Ok(StoredGeneration {
                installed: Installed { active: kept.active, ..(*kept.installed).clone() },
                place: Ok(kept.place.clone()),
                found_back: kept.found_back,
                run: kept.run,
                learnt: kept.learnt.clone(),
            }),
        };
        self.kept.iter().map(found).collect()
    }

    /// The generations that are there.
    pub fn generations(&self) -> impl Iterator<Item = (GenerationId, &SynchronizedDataSet)> {
        self.kept.iter().map(|(of, kept)| (*of, &kept.installed.sds))
    }

    /// Whether the module has given the node up.
    pub fn is_disowned(&self) -> bool {
        self.disowned
    }

    /// How many writes it has carried out.
    pub fn writes(&self) -> u64 {
        self.writes
    }

    /// A place is gone, whoever did that.
    pub fn lose_place(&mut self, of: GenerationId) {
        if let Some(kept) = self.kept.get_mut(&of) {
            kept.place = None;
        }
    }

    /// The sealed place of a generation.
    pub fn place(&self, of: GenerationId) -> Option<&[u8]> {
        self.kept.get(&of)?.place.as_deref()
    }

    /// Whether a generation is active.
    pub fn is_active(&self, of: GenerationId) -> bool {
        self.kept.get(&of).is_some_and(|kept| kept.active)
    }

    /// From here on there is no room, or room again.
    pub fn fill_up(&mut self, full: bool) {
        self.full = full;
    }

    /// Puts the content of an image in the stead of everything but the provisioning relationship; whether there is room
    /// stays.
    pub fn restore(&mut self, image: &Self) {
        let own = self.kept.extract_if(.., |of, _| is_provisioning(of.0)).collect::<BTreeMap<_, _>>();
        *self = Self { full: self.full, writes: self.writes, ..image.clone() };
        self.kept.extend(own);
    }

    fn kept(&mut self, of: GenerationId) -> Result<&mut Kept, WriteFailed> {
        let missing = || WriteFailed { of_the_disk: false, why: format!("generation {} is not here", of.1) };
        self.kept.get_mut(&of).ok_or_else(missing)
    }
}
