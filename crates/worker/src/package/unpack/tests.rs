use std::io::Cursor;

use zip::ZipWriter;
use zip::write::SimpleFileOptions;

use super::*;

enum Entry<'a> {
    File(&'a str, &'a [u8]),
    Link(&'a str, &'a str),
    Directory(&'a str),
}
use Entry::{Directory, File as Plain, Link};

fn zipped(entries: &[Entry<'_>]) -> Cursor<Vec<u8>> {
    let mut writer = ZipWriter::new(Cursor::new(Vec::new()));
    let options = SimpleFileOptions::default();
    for entry in entries {
        match entry {
            Plain(name, data) => {
                writer.start_file(*name, options).expect("a name");
                writer.write_all(data).expect("memory");
            }
            Link(name, target) => writer.add_symlink(*name, *target, options).expect("a name"),
            Directory(name) => writer.add_directory(*name, options).expect("a name"),
        }
    }
    writer.finish().expect("an archive")
}

fn result(archive: Cursor<Vec<u8>>, limits: &Limits) -> (tempfile::TempDir, Result<(), String>) {
    let into = tempfile::tempdir().expect("a directory");
    let result = unpack(archive, into.path(), limits).map_err(|e| e.to_string());
    (into, result)
}

#[test]
fn package_unpacks_to_its_files() {
    let archive = zipped(&[
        Directory("pkg/"),
        Plain("index.py", b"x = 1"),
        Plain("pkg/deep/er.py", b"y = 2"),
        Plain("\u{e4}.txt", b"umlaut"),
        Link("pkg/link.py", "../index.py"),
        Link("again", "pkg/link.py"),
    ]);
    let (into, result) = result(archive, &Limits::default());
    assert_eq!(result, Ok(()));
    let read = |name: &str| fs::read_to_string(into.path().join(name)).expect(name);
    assert_eq!(read("index.py"), "x = 1");
    assert_eq!(read("pkg/deep/er.py"), "y = 2");
    assert_eq!(read("\u{e4}.txt"), "umlaut");
    assert_eq!(read("again"), "x = 1");
}

#[test]
fn links_may_lead_to_what_functions_see_read_only() {
    // A link's target, and whether it is allowed in a package with a directory `d` and a file `d/f`.
    let rows = [
        ("/opt/data.txt", true),
        ("/opt", true),
        ("/opt/lib/../data.txt", true),
        ("/usr/bin/python3", true),
        ("/bin/sh", true),
        ("/lib64/ld-linux-x86-64.so.2", true),
        ("/var/lang/python3/bin/python3", true),
        ("/etc/ssl/certs/ca-certificates.crt", true),
        ("/var/user/d/f", true),
        ("//var/./user/d/../d/f", true),
        // Relative to the mount point of a function's code, and of a layer.
        ("../../usr/bin/env", true),
        ("../usr/bin/env", true),
        ("../../opt/data.txt", true),
        ("../user/d/f", true),
        ("/opt2/x", false),
        ("/", false),
        ("/var", false),
        ("/var/user/nowhere", false),
        ("/var/user/d/f/x", false),
        ("/opt/../etc/passwd", false),
        ("/usr/../../root/.ssh", false),
        ("../../etc/shadow", false),
        ("../../../../../../etc/shadow", false),
        ("/etc", false),
        ("/etc/passwd", false),
        ("/etc/ssl/private/key.pem", false),
        ("/proc/self/environ", false),
        ("/proc/1/root/etc/shadow", false),
        ("/dev/null", false),
        ("/sys/kernel", false),
        ("/tmp/x", false),
        ("/home/qcloud/x", false),
        ("/root/x", false),
        ("/var/runtime/virga/shim.py", false),
    ];
    for (target, taken) in rows {
        let archive = [Plain("d/f", b"text"), Link("l", target)];
        let (into, result) = result(zipped(&archive), &Limits::default());
        match result {
            Ok(()) => {
                assert!(taken, "{target}");
                let made = fs::read_link(into.path().join("l")).expect("a link");
                assert_eq!(made, Path::new(target));
            }
            Err(message) => {
                assert!(!taken, "{message}");
                assert!(message.contains("entry \"l\" is a link to"), "{message}");
                assert_eq!(made(into.path()), 0);
            }
        }
    }
}

#[test]
fn links_that_escape_through_other_links_are_refused() {
    let rows: &[(&[Entry<'_>], bool)] = &[
        (&[Link("a", "/opt"), Link("b", "a/data.txt")], true),
        (
            &[Link("a", "/opt/x"), Link("b", "a/../../etc/shadow")],
            false,
        ),
        (&[Link("a", "/usr"), Link("b", "a/../root")], false),
        (
            &[
                Link("a", "/var/user"),
                Link("b", "a/a/a/f"),
                Plain("f", b""),
            ],
            true,
        ),
        (&[Link("a", "/var/user/b"), Link("b", "/var/user/a")], false),
    ];
    for (entries, taken) in rows {
        let (_, result) = result(zipped(entries), &Limits::default());
        assert_eq!(result.is_ok(), *taken, "{result:?}");
    }
}

#[test]
fn unsafe_entries_are_refused_by_name() {
    let rows: &[(&[Entry<'_>], &str)] = &[
        (&[Plain("/etc/passwd", b"")], "absolute"),
        (&[Plain("a/../../b", b"")], ".."),
        (&[Plain("a\\b", b"")], "backslash"),
        (&[Link("l", "/etc/shadow")], "not in the package"),
        (&[Link("a/l", "../../x")], "not in the package"),
        (&[Link("l", "nowhere")], "not in the package"),
        (&[Link("l", "l")], "not in the package"),
        // Each link alone stays inside; together they escape.
        (
            &[
                Plain("d/e/f", b""),
                Link("d/up", "e/.."),
                Link("x", "d/up/../.."),
            ],
            "not in the package",
        ),
        (
            &[Link("l", "d"), Plain("d/f", b""), Plain("l/g", b"")],
            "not a directory",
        ),
        (&[Plain("a", b""), Plain("./a", b"")], "twice"),
        (&[Plain("a", b""), Plain("a/b", b"")], "not a directory"),
    ];
    for (entries, expected) in rows {
        let outer = tempfile::tempdir().expect("a directory");
        let into = outer.path().join("into");
        fs::create_dir(&into).expect("made");
        let refusal = unpack(zipped(entries), &into, &Limits::default()).expect_err(expected);
        let message = refusal.to_string();
        assert!(message.contains(expected), "{message}");
        let beside = fs::read_dir(outer.path()).expect("listed").count();
        assert_eq!(beside, 1, "something came out beside the package");
    }
}

#[test]
fn declared_sizes_are_not_trusted() {
    let limits = Limits {
        unpacked_bytes: 1 << 20,
        unpacked_entries: 3,
        ..Limits::default()
    };
    // A zip bomb: compressed to a thousandth of its size.
    let zeros = vec![0; 2 << 20];
    let bomb = zipped(&[Plain("zeros", &zeros)]);
    assert!(bomb.get_ref().len() < 10_000);
    let (_, over) = result(bomb, &limits);
    assert_eq!(
        over,
        Err("the package is over 1 MB unpacked, which is the limit".into())
    );
    let names: Vec<_> = (0..4).map(|n| n.to_string()).collect();
    let entries: Vec<_> = names.iter().map(|name| Plain(name, b"")).collect();
    let (_, many) = result(zipped(&entries), &limits);
    assert_eq!(
        many,
        Err("the package has 4 entries; up to 3 files, directories and links are allowed".into())
    );
}

/// Counts the files in a directory, at any depth.
fn made(directory: &Path) -> u64 {
    super::super::tree::size(directory)
        .expect("measured")
        .inodes
}

#[test]
fn implied_directories_count_towards_the_entry_limit() {
    let limits = Limits {
        unpacked_entries: 100,
        ..Limits::default()
    };
    let deep = |count: usize, depth: usize| -> Vec<String> {
        let path = |n: usize| (0..depth).map(|part| format!("d{n}-{part}/")).collect();
        (0..count).map(path).collect()
    };
    let rows = [
        // 9 files and 9 * 10 directories, which are 99; then one more of each.
        (deep(9, 10), true),
        (deep(10, 10), false),
        (deep(1, 98), true),
        (deep(2, 98), false),
    ];
    for (directories, fits) in rows {
        let names: Vec<_> = directories.iter().map(|path| format!("{path}f")).collect();
        let entries: Vec<_> = names.iter().map(|name| Plain(name, b"")).collect();
        let (into, result) = result(zipped(&entries), &limits);
        assert_eq!(result.is_ok(), fits, "{result:?}");
        if let Err(message) = result {
            assert!(message.contains("up to 100 are allowed"), "{message}");
            assert_eq!(made(into.path()), 0, "{message}");
        }
    }
}

#[test]
fn path_depth_path_length_and_link_count_are_limited() {
    let deep = |parts: usize| "d/".repeat(parts - 1) + "f";
    let long = |bytes: usize| {
        format!("{}/{}", "n".repeat(200), "m/".repeat(50)) + &"p".repeat(bytes - 301)
    };
    let links: Vec<_> = (0..20_001).map(|n| format!("l{n}")).collect();
    let many = |count: usize| {
        let made = links[..count].iter().map(|name| Link(name, "."));
        zipped(&made.collect::<Vec<_>>())
    };
    let target = "./".repeat(600);
    let rows = [
        (zipped(&[Plain(&deep(100), b"")]), None),
        (
            zipped(&[Plain(&deep(101), b"")]),
            Some("up to 100 are allowed"),
        ),
        (zipped(&[Plain(&long(500), b"")]), None),
        (
            zipped(&[Plain(&(deep(100) + &"x".repeat(900)), b"")]),
            Some("up to 1024 are allowed"),
        ),
        (zipped(&[Link("l", &target)]), Some("over 1024 bytes")),
        (many(20_000), None),
        (many(20_001), Some("up to 20000 are allowed")),
    ];
    for (archive, expected) in rows {
        let (into, result) = result(archive, &Limits::default());
        match (result, expected) {
            (Ok(()), None) => assert!(made(into.path()) > 0),
            (Err(message), Some(expected)) => {
                assert!(message.contains(expected), "{message}");
                assert_eq!(made(into.path()), 0, "{message}");
            }
            (result, expected) => panic!("{result:?} {expected:?}"),
        }
    }
}

/// Resolving links that lead through each other costs a kernel the product of their lengths.
#[test]
fn link_resolution_has_a_step_limit() {
    let through = |link: &str| format!("{link}/..{}", "/d/..".repeat(200));
    let names: Vec<_> = (0..20_000).map(|n| format!("l{n}")).collect();
    let targets: Vec<_> = (0..names.len())
        .map(|n| match n {
            0 => "d".to_owned(),
            n => through(&names[n - 1 - (n - 1) % 30]),
        })
        .collect();
    let mut entries = vec![Directory("d/")];
    entries.extend(
        names
            .iter()
            .zip(&targets)
            .map(|(name, target)| Link(name, target)),
    );
    let (into, result) = result(zipped(&entries), &Limits::default());
    let message = result.expect_err("refused");
    assert!(
        message.contains("takes too many steps") || message.contains("not in the package"),
        "{message}"
    );
    assert_eq!(made(into.path()), 0);
}

/// Replaces names in an archive by others of the same length, which no zip library would write.
fn renamed(archive: Cursor<Vec<u8>>, from: &[u8], to: &[u8]) -> Cursor<Vec<u8>> {
    let mut bytes = archive.into_inner();
    for at in 0..bytes.len() - from.len() {
        if bytes[at..].starts_with(from) {
            bytes[at..at + to.len()].copy_from_slice(to);
        }
    }
    Cursor::new(bytes)
}

#[test]
fn duplicate_entries_are_refused() {
    let twice = renamed(
        zipped(&[Plain("aaaa", b"1"), Plain("bbbb", b"2")]),
        b"bbbb",
        b"aaaa",
    );
    let (into, refused) = result(twice, &Limits::default());
    let message = refused.expect_err("refused");
    assert!(
        message.contains("\"aaaa\" is in the package twice"),
        "{message}"
    );
    assert_eq!(made(into.path()), 0);
    let folders = renamed(
        zipped(&[Directory("aaaa/"), Directory("bbbb/"), Plain("aaaa/f", b"")]),
        b"bbbb/",
        b"aaaa/",
    );
    // A directory that is listed twice is the same directory.
    assert_eq!(result(folders, &Limits::default()).1, Ok(()));
}

/// All records of the archive's directory point to the first entry's data: 46 bytes make a file, and decompressing
/// all of them takes a multiple of the time.
#[test]
fn entries_that_share_bytes_are_refused() {
    let data: Vec<u8> = (0..5000u32)
        .flat_map(|n| n.wrapping_mul(2_654_435_761).to_le_bytes())
        .collect();
    let names: Vec<_> = (0..3).map(|n| format!("f{n}")).collect();
    let entries: Vec<_> = names.iter().map(|name| Plain(name, &data)).collect();
    let mut bytes = zipped(&entries).into_inner();
    let record = b"PK\x01\x02";
    let records: Vec<_> = (0..bytes.len())
        .filter(|at| bytes[*at..].starts_with(record))
        .collect();
    // Only the first entry's data is kept.
    let second = bytes
        .windows(4)
        .enumerate()
        .filter(|(_, four)| *four == b"PK\x03\x04")
        .nth(1)
        .expect("it")
        .0;
    for at in &records {
        bytes[at + 42..at + 46].copy_from_slice(&0u32.to_le_bytes());
    }
    let gone = records[0] - second;
    bytes.drain(second..records[0]);
    let end = bytes.len() - 22;
    let start = u32::try_from(records[0] - gone).expect("small");
    bytes[end + 16..end + 20].copy_from_slice(&start.to_le_bytes());
    let (into, refused) = result(Cursor::new(bytes), &Limits::default());
    let message = refused.expect_err("refused");
    assert!(message.contains("entries share bytes"), "{message}");
    assert_eq!(made(into.path()), 0);
}

#[test]
fn wrong_declared_size_is_refused() {
    let mut bytes = zipped(&[Plain("f", &[7; 5000])]).into_inner();
    let at = bytes
        .windows(4)
        .position(|four| four == b"PK\x01\x02")
        .expect("there");
    for (size, expected) in [(10_u32, "larger than"), (9000, "shorter than")] {
        bytes[at + 24..at + 28].copy_from_slice(&size.to_le_bytes());
        let (_, refused) = result(Cursor::new(bytes.clone()), &Limits::default());
        let message = refused.expect_err("refused");
        assert!(message.contains(expected), "{message}");
    }
}

/// Mutated archives neither panic nor exceed the limits.
#[test]
fn corrupted_archives_stay_within_the_limits() {
    let limits = Limits {
        unpacked_bytes: 10_000,
        unpacked_entries: 12,
        ..Limits::default()
    };
    let archive = zipped(&[
        Directory("d/"),
        Plain("d/e/f.py", &[b'x'; 3000]),
        Plain("g", b"12345"),
        Link("l", "d/e"),
        Link("d/m", "../l/f.py"),
    ]);
    let good = archive.into_inner();
    let mut seeded = seeded::Random::new(1);
    let mut random = |below: usize| seeded.index(below);
    for _ in 0..3000 {
        let mut bytes = good.clone();
        for _ in 0..=random(6) {
            let at = random(bytes.len());
            match random(4) {
                0 => bytes[at] = u8::try_from(random(256)).expect("small"),
                1 => bytes[at] ^= 1 << random(8),
                2 => drop(bytes.drain(at..(at + random(40)).min(bytes.len()))),
                _ => {
                    let piece = bytes[at..(at + random(80)).min(bytes.len())].to_vec();
                    let to = random(bytes.len());
                    bytes.splice(to..to, piece);
                }
            }
            if bytes.is_empty() {
                break;
            }
        }
        let outer = tempfile::tempdir().expect("a directory");
        let into = outer.path().join("into");
        fs::create_dir(&into).expect("made");
        let _ = unpack(Cursor::new(bytes), &into, &limits);
        let size = super::super::tree::size(&into).expect("measured");
        assert!(size.inodes <= 12 && size.bytes <= 10_000, "{size:?}");
        assert_eq!(fs::read_dir(outer.path()).expect("listed").count(), 1);
    }
}

#[test]
fn damaged_archives_are_refused() {
    let (_, none) = result(Cursor::new(b"not a zip".to_vec()), &Limits::default());
    assert!(none.expect_err("refused").contains("not a zip archive"));
    let data: Vec<u8> = (0..10_000u32)
        .flat_map(|n| n.wrapping_mul(2_654_435_761).to_le_bytes())
        .collect();
    let mut bytes = zipped(&[Plain("data", &data)]).into_inner();
    bytes[2000] ^= 0xff;
    let (_, damaged) = result(Cursor::new(bytes), &Limits::default());
    assert!(
        damaged
            .expect_err("refused")
            .contains("\"data\" is damaged")
    );
}

#[test]
fn fuzzed_archives_stay_within_their_directory_and_limits_or_are_refused() {
    let limits = Limits {
        unpacked_bytes: 64 << 10,
        unpacked_entries: 50,
        ..Limits::default()
    };
    fuzzer::run("zip", 2000, |input| {
        let outer = tempfile::tempdir().expect("a directory");
        let into = outer.path().join("in");
        fs::create_dir(&into).expect("a directory");
        let unpacked = unpack(Cursor::new(input), &into, &limits);
        let beside = fs::read_dir(outer.path()).expect("a directory").count();
        assert_eq!(beside, 1, "something was written outside");
        let (mut bytes, mut entries, mut open) = (0, 0, vec![into]);
        while let Some(directory) = open.pop() {
            for entry in fs::read_dir(directory).expect("a directory") {
                let path = entry.expect("an entry").path();
                let metadata = fs::symlink_metadata(&path).expect("metadata");
                entries += 1;
                bytes += if metadata.is_file() {
                    metadata.len()
                } else {
                    0
                };
                if metadata.is_dir() {
                    open.push(path);
                }
            }
        }
        assert!(bytes <= limits.unpacked_bytes && entries <= limits.unpacked_entries);
        match unpacked {
            Ok(()) => format!("{entries} entries"),
            Err(refused) => fuzzer::shape(&refused.to_string()),
        }
    });
}
