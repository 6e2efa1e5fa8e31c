//! The root directory of guests: a read-only tmpfs with bind mounts of what a runtime needs.

use std::fs;
use std::io;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use crate::private::DEVICES;
use crate::{InitRequest, Result, Step, private, sys, user};

/// A bind mount of a path of the host.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Bind {
    /// Path on the host.
    pub source: PathBuf,
    /// Absolute path inside.
    pub target: PathBuf,
    /// Whether it is writable.
    pub writable: bool,
}

/// Specification of a root.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct RootSpec {
    /// An empty directory of the host on which the root is assembled.
    pub staging: PathBuf,
    /// Interpreters and shims, in addition to the system's `/usr`.
    pub binds: Vec<Bind>,
    /// Symbolic links: path, target.
    pub links: Vec<(PathBuf, PathBuf)>,
    /// Name resolution inside.
    pub names: Names,
}

/// Name resolution of a guest.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum Names {
    /// No network, so no resolution.
    #[default]
    Nowhere,
    /// As on the host, whose network it shares.
    AsHost,
    /// As configured here.
    Given {
        /// Lines of `/etc/hosts`, without loopback.
        hosts: String,
        /// Content of `/etc/resolv.conf`.
        resolver: Option<String>,
        /// Certificate authority of virga's names, trusted in addition to the host's.
        authority: Option<Authority>,
    },
}

/// A certificate authority that guests trust.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Authority {
    /// Certificate, PEM.
    pub certificate: String,
    /// OpenSSL's hash of its subject, as printed by `openssl x509 -subject_hash`.
    pub subject_hash: String,
}

/// File inside with all trusted authorities.
pub const AUTHORITIES: &str = "/etc/ssl/certs/ca-certificates.crt";
/// File inside with virga's own authority only.
pub const OWN_AUTHORITY: &str = "/etc/ssl/certs/virga.pem";

/// Directory of a function's code.
pub(crate) const CODE: &str = "/var/user";
/// Directory of a function's layers.
pub(crate) const LAYERS: &str = "/opt";

/// Writable directory of an instance.
pub(crate) const TMP: &str = "/tmp";

/// Library search path of the dynamic linker in code and layers, in order.
pub const LIBRARIES: [&str; 4] = ["/var/user", "/opt", "/var/user/lib", "/opt/lib"];

/// System directories. Links of the host are copied as links.
pub const SYSTEM: &[&str] = &[
    "/usr", "/bin", "/sbin", "/lib", "/lib32", "/lib64", "/libx32",
];

/// Configuration that libraries read. Contains no names of users, keys or hosts of this machine.
pub const CONFIGURATION: &[&str] = &[
    "/etc/alternatives",
    "/etc/ca-certificates",
    "/etc/ld.so.cache",
    "/etc/ld.so.conf",
    "/etc/ld.so.conf.d",
    "/etc/mime.types",
    "/etc/protocols",
    "/etc/python3",
    "/etc/services",
    "/etc/ssl/certs",
    "/etc/ssl/openssl.cnf",
];
const RESOLVER: &[&str] = &["/etc/resolv.conf", "/etc/host.conf"];
/// Files in which distributions keep all authorities of the host; the first existing one is used.
const HOST_AUTHORITIES: &[&str] = &[
    AUTHORITIES,
    "/etc/pki/tls/certs/ca-bundle.crt",
    "/etc/ssl/ca-bundle.pem",
    "/etc/ssl/cert.pem",
];
/// Maximum number of certificates with the same subject hash.
const SAME_HASH: u32 = 16;

/// Entries of `/proc` that reveal machine and kernel to everybody. Other critical ones are restricted to root.
const HIDDEN: &[&str] = &["cmdline", "config.gz", "kallsyms", "keys", "modules"];

const HOSTS: &str = "127.0.0.1 localhost\n::1 localhost\n";
const NSSWITCH: &str = "passwd: files\ngroup: files\nhosts: files dns\nnetworks: files\nprotocols: files\nservices: files\n";
/// Service and protocol names for hosts without these files; the numbers are IANA's.
const KNOWN_NAMES: [(&str, &str); 2] = [
    ("protocols", include_str!("names/protocols")),
    ("services", include_str!("names/services")),
];

/// A directory that is empty in every root.
const EMPTY: &str = "/var/tmp";

/// Builds the root and makes it the root of this mount namespace, which the caller has unshared. Returns the paths that
/// [`make_private`] covers.
pub(crate) fn enter(spec: &RootSpec) -> Result<Vec<PathBuf>> {
    sys::make_mounts_private().step("make mounts private")?;
    let root = &spec.staging;
    let at = root
        .to_str()
        .ok_or_else(|| io::Error::other("not UTF-8"))
        .step("staging directory")?;
    sys::mount(
        "root",
        at,
        "tmpfs",
        libc::MS_NOSUID,
        "mode=0755,size=64m,nr_inodes=65536",
    )
    .step("mount the root's tmpfs")?;
    for dir in [
        "proc",
        "tmp",
        "dev",
        "etc",
        "home/qcloud",
        "var/user",
        "var/tmp",
        "var/lang",
        "opt",
    ] {
        fs::create_dir_all(root.join(dir)).step(format!("create /{dir}"))?;
    }
    let mut private = Vec::new();
    for path in SYSTEM {
        system_directory(root, Path::new(path), &mut private)?;
    }
    write_etc(root, &spec.names)?;
    let resolver: &[&str] = match spec.names {
        Names::AsHost => RESOLVER,
        Names::Nowhere | Names::Given { .. } => &[],
    };
    for path in CONFIGURATION.iter().chain(resolver).map(Path::new) {
        if let Ok(real) = fs::canonicalize(path) {
            copy(&real, &inside(root, path)).step(format!("copy {}", path.display()))?;
        }
    }
    if let Names::Given {
        authority: Some(authority),
        ..
    } = &spec.names
    {
        trust(root, authority).step("write the trusted authorities")?;
    }
    for (name, text) in KNOWN_NAMES {
        let place = root.join("etc").join(name);
        if !place.exists() {
            fs::write(place, text).step(format!("write /etc/{name}"))?;
        }
    }
    private.push("/etc".into());
    if devices(root)? {
        private.push("/dev".into());
    }
    for one in &spec.binds {
        if one.writable {
            bind(&one.source, root, &one.target, READ_WRITE)?;
        } else {
            show(&one.source, root, &one.target, &mut private)?;
        }
    }
    for (link, to) in &spec.links {
        let link = inside(root, link);
        create_parent(&link)?;
        symlink(to, &link).step(format!("link {}", link.display()))?;
    }
    if user::in_namespace() {
        bind_whole_proc(root)?;
    }
    sys::pivot_into(at).step("pivot into the root")?;
    let read_only =
        libc::MS_REMOUNT | libc::MS_BIND | libc::MS_RDONLY | libc::MS_NOSUID | libc::MS_NODEV;
    sys::mount("none", "/", "", read_only, "").step("make the root read-only")?;
    Ok(private)
}

/// Makes empty [`LIBRARIES`] in a zygote's view. Its dynamic linker checks each directory once and never searches one
/// that was missing then. Instances are copies of it and mount their code and layers there.
pub(crate) fn make_library_places() -> Result<()> {
    let closed = libc::MS_NOSUID | libc::MS_NODEV | libc::MS_NOEXEC;
    for place in [CODE, LAYERS] {
        let what = || format!("mount an empty {place}");
        sys::mount(
            "empty",
            place,
            "tmpfs",
            closed,
            "mode=0755,size=64k,nr_inodes=8",
        )
        .step(what())?;
    }
    for place in LIBRARIES {
        fs::create_dir_all(place).step(format!("create {place}"))?;
    }
    Ok(())
}

/// Gives this mount namespace private files at these paths, so that locks and watches are not shared.
pub(crate) fn make_private(places: &[PathBuf]) -> Result<()> {
    private::cover(places, Path::new(EMPTY))
}

/// Keeps the outer `/proc` until there is a private one. In a user namespace the kernel allows a new `/proc` only while
/// a complete one is visible.
const WHOLE_PROC: &str = "/.proc";

fn bind_whole_proc(root: &Path) -> Result<()> {
    bind(Path::new("/proc"), root, Path::new(WHOLE_PROC), 0)
}

/// Mounts the private parts of one sandbox, as pid 1 of its pid namespace: `/proc`, private files at `private`, user
/// names, and `/tmp`.
pub(crate) fn set_up_sandbox(own: &InitRequest, private: &[PathBuf]) -> Result<()> {
    make_private(private)?;
    mount_proc()?;
    mount_names(own)?;
    mount_tmp(own)
}

/// Shows the names of the sandbox's own user, group and host in `/etc`, from files on a file system that is hidden
/// below `/tmp` afterwards. Sandboxes share their root but have users of their own.
fn mount_names(own: &InitRequest) -> Result<()> {
    let closed = libc::MS_NOSUID | libc::MS_NODEV | libc::MS_NOEXEC;
    sys::mount(
        "names",
        "/tmp",
        "tmpfs",
        closed,
        "mode=0755,size=64k,nr_inodes=16",
    )
    .step("mount names")?;
    let hosts = fs::read_to_string("/etc/hosts").step("read /etc/hosts")?;
    for (name, text) in names_of(own.uid, &own.hostname, hosts) {
        let (source, target) = (Path::new("/tmp").join(name), format!("/etc/{name}"));
        fs::write(&source, text).step(format!("write {target}"))?;
        let file = sys::clone_tree_with(&source, READ_ONLY);
        let shown = file.and_then(|file| sys::attach_tree(&file, &target));
        shown.step(format!("show {target}"))?;
    }
    Ok(())
}

/// Returns the files of `/etc` that name a user, its group and its host, which `hosts` lacks.
fn names_of(user: u32, hostname: &str, hosts: String) -> [(&'static str, String); 4] {
    let passwd = format!(
        "root:x:0:0:root:/:/bin/false\n\
         nobody:x:65534:65534:nobody:/nonexistent:/bin/false\n\
         qcloud:x:{user}:{user}::/home/qcloud:/bin/sh\n"
    );
    [
        ("passwd", passwd),
        (
            "group",
            format!("root:x:0:\nnogroup:x:65534:\nqcloud:x:{user}:\n"),
        ),
        ("hosts", format!("{hosts}127.0.0.1 {hostname}\n")),
        ("hostname", format!("{hostname}\n")),
    ]
}

fn mount_proc() -> Result<()> {
    let closed = libc::MS_NOSUID | libc::MS_NODEV | libc::MS_NOEXEC;
    // Hides processes of other users, such as the sandbox init.
    sys::mount(
        "proc",
        "/proc",
        "proc",
        closed | libc::MS_RDONLY,
        "hidepid=2",
    )
    .step("mount /proc")?;
    if fs::exists(WHOLE_PROC).unwrap_or(false) {
        sys::unmount(WHOLE_PROC).step("unmount virga's /proc")?;
    }
    for name in HIDDEN {
        let path = format!("/proc/{name}");
        if fs::exists(&path).unwrap_or(false) {
            sys::mount("/dev/null", &path, "", libc::MS_BIND, "").step(format!("hide {path}"))?;
        }
    }
    Ok(())
}

fn mount_tmp(own: &InitRequest) -> Result<()> {
    let InitRequest {
        uid,
        tmp_bytes,
        tmp_inodes,
        ..
    } = own;
    let options = format!("mode=0700,uid={uid},gid={uid},size={tmp_bytes},nr_inodes={tmp_inodes}");
    sys::mount(
        "tmp",
        "/tmp",
        "tmpfs",
        libc::MS_NOSUID | libc::MS_NODEV,
        &options,
    )
    .step("mount /tmp")
}

const READ_WRITE: u64 = libc::MOUNT_ATTR_NOSUID | libc::MOUNT_ATTR_NODEV;
const READ_ONLY: u64 = READ_WRITE | libc::MOUNT_ATTR_RDONLY;
const DEVICE: u64 = libc::MOUNT_ATTR_NOSUID | libc::MOUNT_ATTR_NOEXEC;

fn system_directory(root: &Path, path: &Path, private: &mut Vec<PathBuf>) -> Result<()> {
    match fs::read_link(path) {
        Ok(to) => symlink(to, inside(root, path)).step(format!("link {}", path.display())),
        Err(_) if path.is_dir() => show(path, root, path, private),
        Err(_) => Ok(()),
    }
}

/// Bind-mounts a directory of the host read-only, including the mounts below it.
fn show(source: &Path, root: &Path, target: &Path, private: &mut Vec<PathBuf>) -> Result<()> {
    bind(source, root, target, READ_ONLY)?;
    let what = || format!("show {}", source.display());
    let real = fs::canonicalize(source).step(what())?;
    if real.is_dir() {
        let below = private::mounts_below(&real);
        let parts = below
            .iter()
            .filter_map(|mount| mount.strip_prefix(&real).ok());
        private.push(target.to_owned());
        private.extend(parts.map(|part| target.join(part)));
    }
    Ok(())
}

/// Copies a file or a directory tree. Skips what cannot be read.
fn copy(from: &Path, to: &Path) -> io::Result<()> {
    let kind = fs::symlink_metadata(from)?.file_type();
    if kind.is_symlink() {
        return symlink(fs::read_link(from)?, to);
    }
    if !kind.is_dir() {
        if let Some(parent) = to.parent() {
            fs::create_dir_all(parent)?;
        }
        return match kind.is_file() {
            true => fs::copy(from, to).map(drop),
            false => Ok(()),
        };
    }
    fs::create_dir_all(to)?;
    for entry in fs::read_dir(from)?.flatten() {
        match copy(&entry.path(), &to.join(entry.file_name())) {
            Err(e) if e.kind() == io::ErrorKind::PermissionDenied => {}
            copied => copied?,
        }
    }
    Ok(())
}

fn write_etc(root: &Path, names: &Names) -> Result<()> {
    let mut hosts = HOSTS.to_owned();
    let mut files = vec![("nsswitch.conf", NSSWITCH.to_owned())];
    if let Names::Given {
        hosts: more,
        resolver,
        ..
    } = names
    {
        hosts.push_str(more);
        files.extend(resolver.clone().map(|text| ("resolv.conf", text)));
    }
    files.push(("hosts", hosts));
    // Mount points for the files of each sandbox.
    files.extend(["passwd", "group", "hostname"].map(|name| (name, String::new())));
    for (name, text) in files {
        fs::write(root.join("etc").join(name), text).step(format!("write /etc/{name}"))?;
    }
    Ok(())
}

/// Adds an authority to the trusted ones in both forms that libraries read: one file of all, and a directory by hash.
fn trust(root: &Path, authority: &Authority) -> io::Result<()> {
    let mut bundle = HOST_AUTHORITIES
        .iter()
        .find_map(|path| fs::read(path).ok())
        .unwrap_or_default();
    if !bundle.is_empty() && !bundle.ends_with(b"\n") {
        bundle.push(b'\n');
    }
    bundle.extend_from_slice(authority.certificate.as_bytes());
    replace(&inside(root, Path::new(AUTHORITIES)), &bundle)?;
    let own = inside(root, Path::new(OWN_AUTHORITY));
    replace(&own, authority.certificate.as_bytes())?;
    let directory = own.parent().unwrap_or(root);
    for number in 0..SAME_HASH {
        let link = directory.join(format!("{}.{number}", authority.subject_hash));
        match symlink(OWN_AUTHORITY, &link) {
            // The host may trust another virga's authority.
            Err(e) if e.kind() == io::ErrorKind::AlreadyExists => {}
            linked => return linked,
        }
    }
    Ok(())
}

/// Replaces a file. Does not follow a copied link, which may lead out of the unfinished root.
fn replace(path: &Path, content: &[u8]) -> io::Result<()> {
    if let Some(parent) = path.parent() {
        fs::create_dir_all(parent)?;
    }
    match fs::remove_file(path) {
        Err(e) if e.kind() != io::ErrorKind::NotFound => Err(e),
        _ => fs::write(path, content),
    }
}

/// Makes the devices. Returns whether they are new ones, which can be covered.
fn devices(root: &Path) -> Result<bool> {
    let place = inside(root, Path::new("/dev"));
    if private::devices(&place, Path::new("/dev"))? {
        return Ok(true);
    }
    for name in DEVICES {
        let device = Path::new("/dev").join(name);
        bind(&device, root, &device, DEVICE)?;
    }
    private::links(&place).step("link devices")?;
    Ok(false)
}

fn bind(source: &Path, root: &Path, target: &Path, attributes: u64) -> Result<()> {
    let what = || format!("bind {} at {}", source.display(), target.display());
    let real = fs::canonicalize(source).step(what())?;
    let place = inside(root, target);
    if real.is_dir() {
        fs::create_dir_all(&place).step(what())?;
    } else {
        create_parent(&place)?;
        fs::write(&place, b"").step(what())?;
    }
    let place = place
        .to_str()
        .ok_or_else(|| io::Error::other("not UTF-8"))
        .step(what())?;
    let tree = sys::clone_tree_with(&real, attributes).step(what())?;
    sys::attach_tree(&tree, place).step(what())
}

fn inside(root: &Path, path: &Path) -> PathBuf {
    root.join(path.strip_prefix("/").unwrap_or(path))
}

fn create_parent(path: &Path) -> Result<()> {
    match path.parent() {
        Some(parent) => fs::create_dir_all(parent).step(format!("create {}", parent.display())),
        None => Ok(()),
    }
}
