//! Where it was measured.

use std::fs;
use std::path::Path;
use std::process::Command;

use serde::Serialize;

/// What a reader needs to know of a machine, and nothing that names it.
#[derive(Clone, Debug, Serialize)]
pub struct Machine {
    /// Model of the processor, as the kernel tells it.
    pub processor: String,
    /// How many processors this program may use.
    pub processors: usize,
    /// Memory in MiB.
    pub memory_mib: u64,
    /// Name and release of the kernel, and the architecture.
    pub kernel: String,
    /// Version of the compiler that is in the path.
    pub rustc: String,
    /// Kind of the file system that was measured on.
    pub scratch_filesystem: String,
}

impl Machine {
    /// This machine, with scratch files in this directory.
    pub fn here(scratch: &Path) -> Self {
        let uname = rustix::system::uname();
        let text = |part: &std::ffi::CStr| part.to_string_lossy().into_owned();
        Self {
            processor: value("/proc/cpuinfo", "model name").unwrap_or_else(|| "not known".to_owned()),
            processors: std::thread::available_parallelism().map_or(1, usize::from),
            memory_mib: value("/proc/meminfo", "MemTotal").and_then(|text| kibibytes(&text)).unwrap_or(0)
                / 1024,
            kernel: [uname.sysname(), uname.release(), uname.machine()].map(text).join(" "),
            rustc: rustc().unwrap_or_else(|| "not known".to_owned()),
            scratch_filesystem: filesystem(scratch),
        }
    }
}

/// The first value of a name in a file of `/proc` with lines `name: value`.
pub(crate) fn value(file: &str, name: &str) -> Option<String> {
    let content = fs::read_to_string(file).ok()?;
    content.lines().find_map(|line| {
        let (found, value) = line.split_once(':')?;
        (found.trim() == name).then(|| value.trim().to_owned())
    })
}

/// The number in a text like `1234 kB`.
pub(crate) fn kibibytes(text: &str) -> Option<u64> {
    text.strip_suffix("kB")?.trim().parse().ok()
}

fn rustc() -> Option<String> {
    let output = Command::new("rustc").arg("--version").output().ok()?;
    // Without the commit, which nobody needs to read.
    let line = String::from_utf8(output.stdout).ok()?;
    Some(line.split(" (").next()?.trim().to_owned()).filter(|line| !line.is_empty())
}

/// The kind of a file system by its magic number (statfs(2)).
fn filesystem(dir: &Path) -> String {
    let Ok(found) = rustix::fs::statfs(dir) else { return "not known".to_owned() };
    match found.f_type as u64 & 0xffff_ffff {
        0xef53 => "ext2, ext3 or ext4".to_owned(),
        0x0102_1994 => "tmpfs: its syncs cost nothing".to_owned(),
        0x5846_5342 => "xfs".to_owned(),
        0x9123_683e => "btrfs".to_owned(),
        0x794c_7630 => "overlayfs".to_owned(),
        other => format!("magic number {other:#x}"),
    }
}
