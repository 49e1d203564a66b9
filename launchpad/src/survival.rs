//! What preemptions cost a long task: the hours it takes on machines that are lost now and then, started anew each time or gone on with
//! from a checkpoint. Pure.
//!
//! Machines are lost at a constant rate, so that the time until the next loss is exponential. With M its mean, R the time until somebody
//! goes on, δ what a checkpoint costs the engine and τ the work between two, T hours of work take
//! M·e^(R/M)·(e^((τ+δ)/M) − 1)·T/τ (Daly 2006, doi:10.1016/j.future.2004.11.016); without checkpoints τ is T and δ is 0.

/// How machines are lost.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct Weather {
    /// The probability that a machine is lost within an hour, from 0 to below 1.
    pub(crate) lost_per_hour: f64,
    /// The share of losses that are announced early enough for a last checkpoint, from 0 to 1.
    pub(crate) announced: f64,
    /// Hours from a loss until the task goes on elsewhere.
    pub(crate) restart_hours: f64,
}

impl Weather {
    /// Losses an hour.
    fn rate(self) -> f64 {
        -(-self.lost_per_hour).ln_1p()
    }

    /// The probability that a machine lasts so long.
    pub(crate) fn survival(self, hours: f64) -> f64 {
        (-self.rate() * hours).exp()
    }

    /// Expected hours of a task of this length that starts from 0 after each loss.
    pub(crate) fn atomic(self, hours: f64) -> f64 {
        expected(self.rate(), self.restart_hours, hours)
    }

    /// Expected hours of a task of this length with a checkpoint each `every` hours of work, which costs it `cost` hours. An announced loss
    /// costs the restart only.
    pub(crate) fn with_checkpoints(self, hours: f64, every: f64, cost: f64) -> f64 {
        let every = every.min(hours);
        let (announced, sudden) = (self.rate() * self.announced, self.rate() * (1.0 - self.announced));
        let segments = hours / every;
        expected(sudden, self.restart_hours, every + cost) * segments * (1.0 + announced * self.restart_hours)
    }

    /// Hours of work between two checkpoints that cost so much each, at which they cost as much as they save: √(2δM) (Young 1974,
    /// doi:10.1145/361147.361115). `None` if nothing is ever lost without a word.
    pub(crate) fn best_interval(self, cost: f64) -> Option<f64> {
        let sudden = self.rate() * (1.0 - self.announced);
        (sudden > 0.0).then(|| (2.0 * cost / sudden).sqrt())
    }
}

/// Hours until so many have passed without a loss, R for each loss included.
fn expected(rate: f64, restart: f64, hours: f64) -> f64 {
    if rate > 0.0 { (rate * restart).exp() * (rate * hours).exp_m1() / rate } else { hours }
}

#[cfg(test)]
mod tests {
    use rand::rngs::StdRng;
    use rand::{RngExt as _, SeedableRng as _};

    use super::*;

    const FIVE_PERCENT: Weather = Weather { lost_per_hour: 0.05, announced: 0.0, restart_hours: 0.0 };

    fn assert_near(found: f64, expected: f64, within: f64) {
        assert!((found / expected - 1.0).abs() < within, "{found}, expected {expected}");
    }

    #[test]
    fn known_values() {
        assert_near(FIVE_PERCENT.survival(7.0), 0.95_f64.powi(7), 1e-12);
        assert_near(FIVE_PERCENT.atomic(7.0) / 7.0 - 1.0, 0.203, 0.005);
        assert_near(FIVE_PERCENT.atomic(1.0) - 1.0, 0.026, 0.02);
        let calm = Weather { lost_per_hour: 0.0, announced: 0.0, restart_hours: 1.0 };
        assert_eq!((calm.atomic(7.0), calm.survival(7.0), calm.best_interval(0.1)), (7.0, 1.0, None));
        assert_near(calm.with_checkpoints(7.0, 1.0, 0.01), 7.07, 1e-12);
        assert_near(FIVE_PERCENT.best_interval(5.0 / 3600.0).unwrap() * 60.0, 13.96, 0.001);
    }

    #[test]
    fn no_interval_is_better_than_the_best_one_by_much() {
        let cost = 10.0 / 3600.0;
        let best = FIVE_PERCENT.best_interval(cost).unwrap();
        let hours = |every| FIVE_PERCENT.with_checkpoints(7.0, every, cost);
        for factor in [0.25, 0.5, 2.0, 4.0] {
            assert!(hours(best) < hours(best * factor), "{factor}");
        }
    }

    /// One task, played out: hours until it is done.
    fn played(weather: Weather, hours: f64, (every, cost): (f64, f64), rng: &mut StdRng) -> f64 {
        let until_loss = |rng: &mut StdRng| -(1.0 - rng.random::<f64>()).ln() / weather.rate();
        let (mut took, mut done, mut since) = (0.0, 0.0, 0.0);
        let mut lives = until_loss(rng);
        while done < hours {
            let segment = every.min(hours - done) + cost;
            if lives >= segment - since {
                (took, lives) = (took + segment - since, lives - (segment - since));
                (done, since) = (done + every, 0.0);
                continue;
            }
            took += lives;
            // An announced loss keeps what was done of the segment.
            since = if rng.random_bool(weather.announced) { since + lives } else { 0.0 };
            lives = until_loss(rng);
            while lives < weather.restart_hours {
                took += lives;
                lives = until_loss(rng);
            }
            (took, lives) = (took + weather.restart_hours, lives - weather.restart_hours);
        }
        took
    }

    #[test]
    fn formulae_agree_with_tasks_that_are_played_out() {
        let mut rng = StdRng::seed_from_u64(20);
        let rough = Weather { lost_per_hour: 0.2, announced: 0.0, restart_hours: 0.1 };
        for (weather, hours, every, cost) in [
            (FIVE_PERCENT, 7.0, 7.0, 0.0),
            (rough, 7.0, 7.0, 0.0),
            (rough, 8.0, 0.5, 0.02),
            (Weather { announced: 0.8, ..rough }, 8.0, 0.5, 0.02),
        ] {
            let tasks = 20_000;
            let mean = (0..tasks).map(|_| played(weather, hours, (every, cost), &mut rng)).sum::<f64>()
                / f64::from(tasks);
            let formula = if every < hours {
                weather.with_checkpoints(hours, every, cost)
            } else {
                weather.atomic(hours)
            };
            assert_near(mean, formula, 0.015);
        }
    }
}
