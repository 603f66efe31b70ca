//! How `peak_ewma` follows what its backends feel like, in a simulation of connects that take time.

use std::time::Duration;

use super::*;

/// Sessions that begin every millisecond.
const ARRIVALS: usize = 2;

/// How long a session lasts after its connect.
const HOLD_MS: u64 = 20;

struct Session {
    backend: usize,
    connects_at: u64,
    took: u64,
    lease: Option<Lease>,
}

/// A pool whose backends take these milliseconds to answer a connect.
struct Simulation {
    pool: Pool,
    connect_ms: Vec<u64>,
    sessions: Vec<Session>,
    time: u64,
}

impl Simulation {
    fn new(seed: u64, weights: &[u16], connect_ms: &[u64]) -> Self {
        let mut pool = Pool::new(Balance::PeakEwma, members(weights));
        pool.random = Random::new(seed);
        Self {
            pool,
            connect_ms: connect_ms.to_vec(),
            sessions: Vec::new(),
            time: 10_000,
        }
    }

    /// Runs on for so many milliseconds; returns how many sessions each backend got.
    fn run(&mut self, millis: u64) -> Vec<usize> {
        let mut shares = vec![0; self.connect_ms.len()];
        for _ in 0..millis {
            self.time += 1;
            let now = Instant::from_millis(self.time);
            for session in &self.sessions {
                if session.connects_at == self.time {
                    let took = Duration::from_millis(session.took);
                    self.pool.backend(session.backend).feel_connect(now, took);
                }
            }
            let time = self.time;
            self.sessions.retain_mut(|session| {
                let lasts = session.connects_at + HOLD_MS > time;
                if !lasts {
                    session.lease = None;
                }
                lasts
            });
            for _ in 0..ARRIVALS {
                let ask = Ask {
                    now,
                    ..self.pool.ask()
                };
                let backend = self.pool.walk_of(ask)[0];
                shares[backend] += 1;
                let took = self.connect_ms[backend];
                self.sessions.push(Session {
                    backend,
                    connects_at: time + took,
                    took,
                    lease: Some(self.pool.backend(backend).lease()),
                });
            }
        }
        shares
    }
}

/// Replay one with RINGLANE_SEED.
fn seeds() -> std::ops::Range<u64> {
    match std::env::var("RINGLANE_SEED") {
        Ok(seed) => {
            let seed = seed.parse().unwrap();
            seed..seed + 1
        }
        Err(_) => 0..64,
    }
}

#[test]
fn a_backend_that_becomes_slow_is_left_and_found_again() {
    for seed in seeds() {
        let mut simulation = Simulation::new(seed, &[1, 1, 1, 1], &[1, 1, 1, 1]);
        let even = simulation.run(2_000);
        assert!(even.iter().all(|&n| n > 700), "seed {seed}: {even:?}");
        simulation.connect_ms[2] = 80;
        simulation.run(200);
        let slow = simulation.run(3_000);
        let least = slow.iter().sum::<usize>() / 50;
        assert!(slow[2] < least, "seed {seed}: {slow:?}");
        simulation.connect_ms[2] = 1;
        simulation.run(45_000);
        let again = simulation.run(2_000);
        assert!(again[2] > 600, "seed {seed}: {again:?}");
    }
}

#[test]
fn equal_backends_come_near_their_weights() {
    for seed in seeds() {
        let mut simulation = Simulation::new(seed, &[4, 2, 2], &[2, 2, 2]);
        simulation.run(500);
        let shares = simulation.run(4_000);
        for (share, expected) in shares.iter().zip([4_000, 2_000, 2_000]) {
            let off = share.abs_diff(expected);
            assert!(off < expected / 5, "seed {seed}: {shares:?}");
        }
    }
}

#[test]
fn nobody_rushes_to_a_backend_that_nobody_has_heard_of() {
    for seed in seeds() {
        let mut simulation = Simulation::new(seed, &[1, 1, 1], &[1, 1, 30]);
        let burst = simulation.run(25);
        assert!(burst[2] <= 5, "seed {seed}: {burst:?}");
    }
}

#[test]
fn small_differences_do_not_send_everybody_to_one() {
    let mut pool = Pool::new(Balance::PeakEwma, members(&[1, 1, 2]));
    for (index, micros) in [40, 90, 240].into_iter().enumerate() {
        let took = Duration::from_micros(micros);
        pool.backend(index).feel_connect(NOW, took);
    }
    let shares = pool.shares(4_000);
    for (share, expected) in shares.iter().zip([1_000, 1_000, 2_000]) {
        assert!(share.abs_diff(expected) < 150, "{shares:?}");
    }
    pool.backend(1).feel_connect(NOW, Duration::from_millis(2));
    assert!(pool.shares(4_000)[1] < 100);
}

#[test]
fn a_failed_connect_counts_as_a_second() {
    let mut pool = Pool::new(Balance::PeakEwma, members(&[1, 1]));
    for index in 0..2 {
        let millis = Duration::from_millis(500);
        pool.backend(index).feel_connect(NOW, millis);
    }
    assert!(pool.shares(1_000).iter().all(|&share| share > 400));
    // Longer ago than it is remembered as a failure.
    pool.backend(0).connect_failed(Instant::from_millis(8_900));
    assert_eq!(pool.shares(1_000), [0, 1_000]);
}
