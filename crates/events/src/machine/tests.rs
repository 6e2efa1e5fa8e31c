//! Rules of the source: nothing that replicas could decide differently.

const SOURCES: &[(&str, &str)] = &[
    ("command", include_str!("command.rs")),
    ("events", include_str!("events.rs")),
    ("mod", include_str!("mod.rs")),
    ("purge", include_str!("purge.rs")),
    ("retention", include_str!("retention.rs")),
    ("rows", include_str!("rows.rs")),
    ("usage", include_str!("usage.rs")),
];

#[test]
fn limit_stands_under_a_total_order() {
    let mut limits = 0;
    for (name, source) in SOURCES {
        for text in source.split('"').skip(1).step_by(2) {
            if text.contains(" LIMIT ") && !text.starts_with("SELECT COUNT(*)") {
                limits += 1;
                let order = text.rsplit_once("ORDER BY ").map(|(_, order)| order);
                let total = order.is_some_and(|order| {
                    // The last column is a key, or the last of a key.
                    order.contains("seq LIMIT") || order.contains("version, hour LIMIT")
                });
                assert!(total, "{name}: {text}");
            }
        }
    }
    assert!(limits >= 5, "{limits} found");
}

#[test]
fn nothing_is_read_beside_the_command_and_the_tables() {
    for (name, source) in SOURCES {
        for other in [
            "Instant",
            "SystemTime",
            "now_ms",
            "random",
            "std::env",
            "CURRENT_TIMESTAMP",
            "MAX(",
            "last_insert_rowid",
        ] {
            assert!(!source.contains(other), "{name} has {other}");
        }
    }
}
