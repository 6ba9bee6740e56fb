//! A node with any number of relationships, on the disk as its stack leaves it.

use std::collections::HashSet;
use std::fs;
use std::net::UdpSocket;
use std::os::unix::fs::{DirBuilderExt, symlink};
use std::os::unix::net::UnixDatagram;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use akm_core::crypto::{self, Suite};
use akm_core::element::{MonotonicCounter, RootCheck};
use akm_core::enrolment::Envelope;
use akm_core::frame::Header;
use akm_core::id::{AkmId, RelationshipId};
use akm_core::keys::PlaceSeal;
use akm_core::management::Install;
use akm_core::policy::Policy;
use akm_core::sds::{Generation, GenerationSecrets, Kind, ParameterDataVector, SynchronizedDataSet};
use akm_core::seal::{HostPartSeal, KeysSeal};
use akm_core::secret::{Secret, SecretBytes};
use akm_core::tree::Place;
use akm_element::random;
use akm_element::software::SoftwareElement;
use akm_node::enrol;
use akm_node::layout::Layout;
use akm_node::storage::{Installed, Storage};
use tempfile::TempDir;

use crate::error::BenchError;
use crate::machine::{kibibytes, value};
use crate::processes::program;

/// How long a start may take.
const PATIENCE: Duration = Duration::from_secs(900);

/// How long the others wait for the next frame of a stack that has something to say.
const SILENCE: Duration = Duration::from_secs(60);

/// How often a start looks whether the stack has ended instead.
const GLANCE: Duration = Duration::from_millis(200);

/// Threads that install relationships: the disk syncs for several about as fast as for one.
const INSTALLERS: usize = 8;

/// A node, not running.
pub(crate) struct InstalledNode {
    place: TempDir,
    layout: Layout,
    asrs: usize,
    /// Where all other members seem to be.
    others: UdpSocket,
}

/// What a start cost.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Start {
    /// From starting the process until it says that it is ready.
    pub(crate) ready: Duration,
    /// Until the others have heard of it in every relationship: each begins an epoch for that, with a write to
    /// the disk.
    pub(crate) heard: Duration,
    /// Memory that it holds then, in KiB.
    pub(crate) resident_kib: u64,
}

impl InstalledNode {
    /// Makes a node with so many ASRs of two members.
    pub(crate) fn with(scratch: &Path, asrs: usize) -> Result<Self, BenchError> {
        let place = tempfile::Builder::new()
            .prefix("akm-bench-")
            .tempdir_in(scratch)
            .map_err(BenchError::scratch(scratch))?;
        let dir = place.path();
        lay_out(dir).map_err(BenchError::scratch(dir))?;
        let others = UdpSocket::bind("127.0.0.1:0").map_err(BenchError::scratch(dir))?;
        others.set_read_timeout(Some(SILENCE)).map_err(BenchError::scratch(dir))?;
        let node = Self { layout: Layout::new(dir), place, asrs, others };
        let id = AkmId::from_random(random());
        node.enrol(id)?;
        node.install(id)?;
        Ok(node)
    }

    fn enrol(&self, id: AkmId) -> Result<(), BenchError> {
        let (sds, secrets) =
            issue(Kind::Provisioning, vec![AkmId::from_random(random()), id], &Policy::provisioning());
        let seal = HostPartSeal::by_root(&secrets.element_root, &sds);
        let host_part = seal.seal(crypto::provider(), 1, &random(), &secrets.host);
        let install = Install {
            public_part: sds.emit(),
            wrapped_root: Some(SecretBytes::copy_from(secrets.element_root.expose())),
            root_check: RootCheck::of(&secrets.element_root),
            host_part: host_part.try_into().expect("a sealed host part has one length"),
            label: "provisioning by bench".to_owned(),
            member_labels: vec!["bench".to_owned(), "node".to_owned()],
            endpoints: Vec::new(),
        };
        let envelope = Envelope {
            node: id,
            name: "node".to_owned(),
            install: install.emit(),
            replaces: None,
            erase: Vec::new(),
        };
        enrol::enrol(&self.layout, envelope.emit().expose()).map_err(BenchError::product)?;
        Ok(())
    }

    /// Installs relationships as the stack does when its module sends them, through the same storage, but
    /// their roots at once.
    fn install(&self, id: AkmId) -> Result<(), BenchError> {
        let storage = Storage::open(&self.layout).map_err(BenchError::product)?;
        let mut element = SoftwareElement::open(storage.state_dir(), None).map_err(BenchError::product)?;
        let start = element.value().map_err(BenchError::product)?;
        let seal = PlaceSeal::derive(&mut element, start).map_err(BenchError::product)?;
        let endpoint = self.others.local_addr().map_err(BenchError::scratch(self.place.path()))?.to_string();
        let issued: Vec<_> = (0..self.asrs)
            .map(|_| issue(Kind::Communication, vec![id, AkmId::from_random(random())], &Policy::default()))
            .collect();
        let named = |(sds, secrets): &(SynchronizedDataSet, GenerationSecrets)| {
            let root = secrets.element_root.duplicate();
            (sds.root(RootCheck::of(&root)), root)
        };
        element.install_all(issued.iter().map(named).collect()).map_err(BenchError::product)?;
        let mut sealed_keys = Vec::new();
        for (sds, secrets) in &issued {
            let seal = KeysSeal::derive(&mut element, sds).map_err(BenchError::product)?;
            sealed_keys.push(seal.seal(crypto::provider(), &random(), &secrets.host.keys));
        }
        let keep = |(number, (sds, secrets)): (usize, &(SynchronizedDataSet, GenerationSecrets))| {
            let own = sds.index_of(id).map_or(0, usize::from);
            let mut endpoints = vec![endpoint.clone(); 2];
            endpoints[own].clear();
            let place = Place::before_first(0, secrets.host.tree_root.duplicate()).emit();
            let sealed = seal.seal(crypto::provider(), sds.suite(), sds.digest(), &random(), place.expose());
            let installed = Installed {
                sds: sds.clone(),
                root_check: RootCheck::of(&secrets.element_root),
                host_part: secrets.host.digest(),
                tag: secrets.host.keys.tag,
                sealed_keys: sealed_keys[number].clone(),
                label: format!("asr-{number}"),
                member_labels: vec!["one".to_owned(), "other".to_owned()],
                endpoints,
                active: true,
            };
            storage.install(id, &installed, &sealed)
        };
        let numbered: Vec<_> = issued.iter().enumerate().collect();
        let share = numbered.len().div_ceil(INSTALLERS).max(1);
        std::thread::scope(|scope| {
            let workers: Vec<_> = numbered
                .chunks(share)
                .map(|chunk| scope.spawn(|| chunk.iter().copied().try_for_each(keep)))
                .collect();
            workers.into_iter().try_for_each(|worker| worker.join().expect("it does not panic"))
        })
        .map_err(BenchError::product)
    }

    /// Starts the stack, waits until it has settled, and ends it.
    pub(crate) fn start(&self) -> Result<Start, BenchError> {
        let dir = self.place.path();
        let ready_socket = dir.join("ready");
        let _ = fs::remove_file(&ready_socket);
        let notifications = UnixDatagram::bind(&ready_socket).map_err(BenchError::scratch(&ready_socket))?;
        notifications.set_read_timeout(Some(GLANCE)).map_err(BenchError::scratch(&ready_socket))?;
        let mut command = Command::new(program("akmd")?);
        command.arg("run").arg("--dir").arg(dir).env("NOTIFY_SOCKET", &ready_socket);
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
        let hint = format!("{command:?}");
        let failed = |what: String| BenchError::Program { what, hint: hint.clone() };
        self.drain().map_err(BenchError::scratch(dir))?;
        let began = Instant::now();
        let mut stack = Stack(command.spawn().map_err(|error| failed(error.to_string()))?);
        // The system tells it as soon as it is so: nothing to look for again and again.
        while notifications.recv(&mut [0; 64]).is_err() {
            if let Ok(Some(status)) = stack.0.try_wait() {
                return Err(failed(format!("the stack ended with {status}")));
            }
            if began.elapsed() > PATIENCE {
                return Err(failed("the stack does not get ready".to_owned()));
            }
        }
        let ready = began.elapsed();
        self.wait_for_hellos()?;
        let heard = began.elapsed();
        let status = format!("/proc/{}/status", stack.0.id());
        let resident = value(&status, "VmRSS").and_then(|text| kibibytes(&text));
        let resident_kib =
            resident.ok_or_else(|| failed("the kernel does not tell its memory".to_owned()))?;
        stack.stop(&self.layout)?;
        Ok(Start { ready, heard, resident_kib })
    }

    /// Forgets what an earlier start may have said beyond what was waited for.
    fn drain(&self) -> std::io::Result<()> {
        self.others.set_nonblocking(true)?;
        while self.others.recv(&mut [0; 2048]).is_ok() {}
        self.others.set_nonblocking(false)
    }

    /// Waits until the others have heard a frame in each relationship.
    fn wait_for_hellos(&self) -> Result<(), BenchError> {
        // Of one start each relationship has a salt of its own; tags may be shared.
        let mut salts = HashSet::new();
        let mut frame = [0; 2048];
        while salts.len() < self.asrs {
            let length = self.others.recv(&mut frame).map_err(|error| {
                BenchError::Product(format!(
                    "{} of {} relationships were heard of, then none for {} s ({error})",
                    salts.len(),
                    self.asrs,
                    SILENCE.as_secs()
                ))
            })?;
            let header = Header::parse(&frame[..length]).map_err(BenchError::product)?;
            salts.insert(header.salt);
        }
        Ok(())
    }
}

/// A running `akmd`; killed when dropped.
struct Stack(Child);

impl Stack {
    fn stop(&mut self, layout: &Layout) -> Result<(), BenchError> {
        let mut stack = akm_client::Stack::connect(layout.dir()).map_err(BenchError::product)?;
        stack.stop().map_err(BenchError::product)?;
        self.0.wait().map_err(BenchError::scratch(layout.dir()))?;
        Ok(())
    }
}

impl Drop for Stack {
    fn drop(&mut self) {
        // It may have ended long ago.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// What the ceremony leaves on a device before enrolment.
fn lay_out(dir: &Path) -> std::io::Result<()> {
    let release = "releases/bench";
    fs::create_dir_all(dir.join(release))?;
    fs::write(dir.join(release).join("akmd.toml"), "listen = \"127.0.0.1:0\"\nelement = \"software\"\n")?;
    symlink(release, dir.join("current"))?;
    fs::DirBuilder::new().mode(0o700).create(dir.join("state"))
}

fn issue(kind: Kind, members: Vec<AkmId>, policy: &Policy) -> (SynchronizedDataSet, GenerationSecrets) {
    let sds = SynchronizedDataSet::new(Generation {
        kind,
        relationship: RelationshipId::from_random(random()),
        generation: 1,
        element_version: 1,
        instance: random(),
        suite: Suite::Aes256Gcm,
        members,
        policy: policy.emit(),
    })
    .expect("two members make a relationship");
    let secrets = ParameterDataVector::new(Secret::take(&mut random())).derive(&sds);
    (sds, secrets)
}
