//! A function with endless requests, and another one with a single request.

use dispatch::{
    AccountId, Config, GroupId, Machine, MachineEffect, MachineEvent, PoolId, PoolSpec, Ticket,
    Time,
};

/// Memory for one instance, a saturated function, and another one with a single request.
#[test]
fn saturated_function_yields_to_a_waiting_function() {
    let config = Config {
        account_mb: 128,
        node_mb: 128,
        headroom_mb: 0,
        first_mb: 0,
        max_starting: 1,
        max_waiting: 100,
        max_start_attempts: 1,
        short_request_concurrency: 0,
        starts_per_minute: 0,
        yield_after: 1000,
    };
    let mut machine = Machine::new(config);
    let mut out = Vec::new();
    for pool in [1, 2] {
        let spec = PoolSpec {
            group: GroupId(pool),
            account: AccountId(0),
            memory_mb: 128,
            slots: 1,
            reserved_mb: None,
            headroom: true,
            keep_alive: 1_000_000,
            freeze_after: 1000,
        };
        machine.step(
            Time(0),
            MachineEvent::Open {
                pool: PoolId(pool),
                spec,
            },
            &mut out,
        );
    }
    for ticket in 0..50 {
        let request = MachineEvent::Request {
            ticket: Ticket(ticket),
            pool: PoolId(1),
            deadline: Time(1 << 40),
        };
        machine.step(Time(0), request, &mut out);
    }
    let request = MachineEvent::Request {
        ticket: Ticket(99),
        pool: PoolId(2),
        deadline: Time(1 << 40),
    };
    machine.step(Time(1), request, &mut out);
    let mut served_before = 0;
    for now in (0..100).map(|turn| turn * 300) {
        let pending = std::mem::take(&mut out);
        for effect in pending {
            match effect {
                MachineEffect::Start { instance, .. } => {
                    machine.step(Time(now), MachineEvent::Started { instance }, &mut out)
                }
                MachineEffect::Stop { instance } => {
                    machine.step(Time(now), MachineEvent::Ended { instance }, &mut out)
                }
                MachineEffect::Assign {
                    ticket: Ticket(99), ..
                } => {
                    assert!((1..=10).contains(&served_before), "after {served_before}");
                    return;
                }
                MachineEffect::Assign { instance, .. } => {
                    served_before += 1;
                    machine.step(
                        Time(now),
                        MachineEvent::Finished {
                            instance,
                            reusable: true,
                        },
                        &mut out,
                    );
                }
                _ => {}
            }
        }
    }
    panic!("the second function was never served");
}
