//! What a start costs: nothing before all that it needs is there, and not without end after that. With the real program,
//! and a service manager that is this test.

mod support;

use std::fs;
use std::io::ErrorKind;
use std::net::{SocketAddr, TcpListener, UdpSocket};
use std::os::unix::net::UnixDatagram;
use std::path::PathBuf;
use std::process::{Child, Command, Output, Stdio};
use std::sync::{PoisonError, RwLock};
use std::time::Duration;

use akm_disk::durable;
use akm_node::storage::Storage;
use support::{Device, Module};
use tempfile::TempDir;

/// Longer than any start takes on a machine that is busy.
const PATIENCE: Duration = Duration::from_secs(60);

/// A process that begins has for a moment what this program has open, also the lock of a node that another test makes.
static BEGINNING: RwLock<()> = RwLock::new(());

fn begin(command: &mut Command) -> Child {
    let _nothing_is_open = BEGINNING.read().unwrap_or_else(PoisonError::into_inner);
    command.spawn().unwrap()
}

/// A node, and a service manager that can be told of it.
struct Place {
    device: Device,
    /// Where its stack listens.
    address: SocketAddr,
    manager: UnixDatagram,
    notify: PathBuf,
    _notify_in: TempDir,
}

impl Place {
    fn new() -> Self {
        let device = {
            let _nobody_begins = BEGINNING.write().unwrap_or_else(PoisonError::into_inner);
            let device = Device::fresh();
            device.enrol(Module::new().provision().envelope("station").emit().expose());
            device
        };

        let free = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = free.local_addr().unwrap();
        let configuration = format!("listen = \"{address}\"\nelement = \"software\"\n");
        fs::write(device.layout.config(), configuration).unwrap();
        let notify_in = tempfile::tempdir().unwrap();
        let notify = notify_in.path().join("notify");
        let manager = UnixDatagram::bind(&notify).unwrap();
        manager.set_read_timeout(Some(PATIENCE)).unwrap();
        Self { device, address, manager, notify, _notify_in: notify_in }
    }

    fn akmd(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_akmd"));
        command.args(arguments).arg("--dir").arg(self.device.layout.dir()).env_remove("NOTIFY_SOCKET");
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
        command
    }

    /// As a person runs it, to its end.
    fn run_by_hand(&self, arguments: &[&str]) -> Output {
        begin(&mut self.akmd(&[&["run"], arguments].concat())).wait_with_output().unwrap()
    }

    /// As the service manager runs it.
    fn run_as_service(&self) -> Service<'_> {
        let stack = begin(self.akmd(&["run"]).env("NOTIFY_SOCKET", &self.notify));
        Service { place: self, stack }
    }

    /// `akmd status`: its exit code, and what it says.
    fn status(&self) -> (Option<i32>, String) {
        let output = begin(&mut self.akmd(&["status"])).wait_with_output().unwrap();
        (output.status.code(), String::from_utf8_lossy(&output.stderr).into_owned())
    }

    fn counter(&self) -> u64 {
        self.device.counter()
    }

    fn record(&self) -> PathBuf {
        self.device.state().join("starts")
    }

    /// So much time has gone by for the record of starts.
    fn time_goes_by(&self, seconds: u64) {
        let text = fs::read_to_string(self.record()).unwrap();
        let (boot, starts) = text.split_once('\n').unwrap();
        let earlier = starts.lines().map(|at| at.parse::<u64>().unwrap().saturating_sub(seconds).to_string());
        let text = format!("{boot}\n{}\n", earlier.collect::<Vec<_>>().join("\n"));
        durable::replace(&self.record(), text.as_bytes()).unwrap();
    }
}

/// A stack under the service manager; it ends with the value.
struct Service<'p> {
    place: &'p Place,
    stack: Child,
}

impl Service<'_> {
    /// What the stack tells the service manager next.
    #[track_caller]
    fn says(&self) -> String {
        let mut message = [0; 4096];
        let length = loop {
            match self.place.manager.recv(&mut message) {
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                received => break received.expect("the stack says something"),
            }
        };
        String::from_utf8_lossy(&message[..length]).into_owned()
    }

    #[track_caller]
    fn is_ready(&self) {
        let said = self.says();
        assert!(said.starts_with("READY=1\n"), "{said}");
    }

    /// It says that it waits, and why, to the service manager and to whoever asks.
    #[track_caller]
    fn waits(&self, why: &str) {
        let said = self.says();
        let waits = said.starts_with("EXTEND_TIMEOUT_USEC=") && said.contains("STATUS=the stack waits");
        assert!(waits && said.contains(why), "{said}");
    }

    fn kill(mut self) {
        self.stack.kill().unwrap();
        self.stack.wait().unwrap();
    }

    /// Ended as a service manager ends it that is asked to; its exit code.
    fn terminate(mut self) -> Option<i32> {
        let pid = self.stack.id().to_string();
        assert!(Command::new("kill").args(["-TERM", &pid]).status().unwrap().success());
        self.stack.wait().unwrap().code()
    }

    /// It ends by itself: its exit code, and what it said.
    fn ends(mut self) -> (Option<i32>, String) {
        let code = self.stack.wait().unwrap().code();
        let mut said = String::new();
        std::io::Read::read_to_string(&mut self.stack.stderr.take().unwrap(), &mut said).unwrap();
        (code, said)
    }
}

impl Drop for Service<'_> {
    fn drop(&mut self) {
        let _ = self.stack.kill();
        let _ = self.stack.wait();
    }
}

#[test]
fn a_port_that_is_taken_does_not_wear_the_counter_out() {
    let place = Place::new();
    let squatter = UdpSocket::bind(place.address).unwrap();
    let before = (place.counter(), place.device.records());
    for _ in 0..3 {
        let output = place.run_by_hand(&[]);
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        assert!(output.status.code() == Some(1) && said.contains("cannot listen"), "{said}");
    }

    // Who asks a service manager for it is told at once, too.
    let (code, said) = place.run_as_service().ends();
    assert!(code == Some(1) && said.contains("cannot listen"), "{said}");
    // It is started again, and waits from then on.
    let service = place.run_as_service();
    service.waits("cannot listen");
    let (code, said) = place.status();
    assert!(
        code == Some(7) && said.contains("waits with its start") && said.contains("cannot listen"),
        "{said}"
    );
    service.waits("for 2 s");
    assert_eq!((place.counter(), place.device.records()), before);

    drop(squatter);
    let mut said = service.says();
    while said.contains("EXTEND_TIMEOUT_USEC=") {
        said = service.says();
    }
    assert!(said.starts_with("READY=1\n"), "{said}");
    assert_eq!(place.status().0, Some(0));
    assert_eq!(service.terminate(), Some(0));
    assert_eq!(place.counter(), before.0 + 1);
}

/// Whatever stands in the way of a start, until it is dropped.
type Obstacle = Box<dyn std::any::Any>;

#[test]
fn what_ends_a_stack_before_it_is_ready_is_not_counted() {
    let metrics = TcpListener::bind("127.0.0.1:0").unwrap();
    let at = metrics.local_addr().unwrap().to_string();
    let place = Place::new();
    let (layout, state) = (&place.device.layout, place.device.state());
    let in_the_way = |path: PathBuf| -> Obstacle {
        fs::create_dir_all(&path).unwrap();
        Box::new(AtTheEnd(move || fs::remove_dir(&path).unwrap()))
    };
    let away = |path: PathBuf| -> Obstacle {
        let elsewhere = path.with_added_extension("away");
        fs::rename(&path, &elsewhere).unwrap();
        Box::new(AtTheEnd(move || fs::rename(&elsewhere, &path).unwrap()))
    };
    let run = || -> Obstacle {
        let _ = fs::remove_dir_all(layout.run());
        fs::write(layout.run(), b"").unwrap();
        let path = layout.run();
        Box::new(AtTheEnd(move || fs::remove_file(&path).unwrap()))
    };
    type Case<'c> = (&'c str, Box<dyn Fn() -> Obstacle + 'c>, &'c [&'c str], i32, &'c str);
    let cases: [Case<'_>; 10] = [
        ("no place for its socket", Box::new(run), &[], 1, "not a directory"),
        ("another akmd", Box::new(|| Box::new(Storage::open(layout).unwrap())), &[], 1, "another akmd works"),
        ("no configuration", Box::new(|| away(layout.config())), &[], 1, "akmd.toml: missing"),
        ("no identity", Box::new(|| away(state.join("identity"))), &[], 3, "not an AKM node"),
        ("no local socket", Box::new(|| in_the_way(layout.socket())), &[], 1, "akmd.sock"),
        (
            "UDP is taken",
            Box::new(|| Box::new(UdpSocket::bind(place.address).unwrap())),
            &[],
            1,
            "cannot listen",
        ),
        (
            "TCP is taken",
            Box::new(|| Box::new(TcpListener::bind(place.address).unwrap())),
            &[],
            1,
            "cannot listen",
        ),
        ("metrics are taken", Box::new(|| Box::new(())), &["--metrics", &at], 1, "cannot show metrics"),
        ("metrics for all", Box::new(|| Box::new(())), &["--metrics", "0.0.0.0:9"], 2, "not on loopback"),
        ("no element", Box::new(|| away(state.join("element"))), &[], 1, "element is missing"),
    ];
    let before = (place.counter(), place.device.records());
    for (what, obstacle, arguments, code, says) in cases {
        let obstacle = obstacle();
        let output = place.run_by_hand(arguments);
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        assert!(output.status.code() == Some(code) && said.contains(says), "{what}: {output:?}");
        drop(obstacle);
        assert_eq!((place.counter(), place.device.records()), before, "{what}");
    }

    // A service that is started again remembers that first.
    let service = place.run_as_service();
    service.is_ready();
    service.kill();
    let obstacle = in_the_way(place.record());
    let service = place.run_as_service();
    service.waits("state/starts");
    assert_eq!(place.status().0, Some(7));
    assert!(place.akmd(&["stop"]).output().unwrap().status.success());
    assert_eq!(service.ends().0, Some(0));
    drop(obstacle);
}

/// Does something when it is dropped.
struct AtTheEnd<F: FnMut()>(F);

impl<F: FnMut()> Drop for AtTheEnd<F> {
    fn drop(&mut self) {
        (self.0)();
    }
}

#[test]
fn a_stack_that_ends_again_and_again_is_held_back_and_never_for_good() {
    let place = Place::new();
    let before = place.counter();
    // The first one is asked for; ten more the service manager makes by itself.
    for _ in 0..=10 {
        let service = place.run_as_service();
        service.is_ready();
        service.kill();
    }
    assert_eq!(place.counter(), before + 11);
    let service = place.run_as_service();
    service.waits("ended too often");
    let (code, said) = place.status();
    assert!(code == Some(7) && said.contains("whoever restarts the service does not wait"), "{said}");

    // Who restarts it does not wait.
    assert_eq!(service.terminate(), Some(0));
    let service = place.run_as_service();
    service.is_ready();
    assert_eq!(place.counter(), before + 12);
    service.kill();

    // Nor does who runs it by hand.
    let mut by_hand = place.akmd(&["run"]).spawn().unwrap();
    while place.status().0 != Some(0) {
        assert!(by_hand.try_wait().unwrap().is_none(), "it ended");
    }
    assert!(place.akmd(&["stop"]).output().unwrap().status.success());
    assert_eq!(by_hand.wait().unwrap().code(), Some(0));
    assert_eq!(place.counter(), before + 13);

    // Ten minutes later there is one more.
    place.time_goes_by(590);
    let service = place.run_as_service();
    service.waits("ended too often");
    service.kill();
    place.time_goes_by(10);
    let service = place.run_as_service();
    service.is_ready();
    service.kill();
    let service = place.run_as_service();
    service.waits("ended too often");
    assert_eq!(place.counter(), before + 14);
}

#[test]
fn a_stack_that_is_run_where_none_is_installed_makes_nothing_there() {
    let nowhere = tempfile::tempdir().unwrap();
    let dir = nowhere.path().join("mistyped");
    let output = Command::new(env!("CARGO_BIN_EXE_akmd")).args(["run", "--dir"]).arg(&dir).output().unwrap();
    assert_eq!(output.status.code(), Some(1));
    assert!(String::from_utf8_lossy(&output.stderr).contains("akmd.toml: missing"), "{output:?}");
    assert!(!dir.exists());
}
