//! When the phases of an attempt began and ended, in ms of the Redis clock.

/// The moments that a worker saw. All but the first two are absent when the attempt did not get there.
///
/// A worker's time is the Redis time of its lease reply plus monotonic time elapsed since, so a wrong clock on its host
/// changes nothing.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct Moments {
    /// The task became pending.
    pub queued: u64,
    /// The lease was granted.
    pub leased: u64,
    /// All inputs were on local disk.
    pub staged: Option<u64>,
    /// The first engine step started.
    pub engine_started: Option<u64>,
    /// The last engine step ended.
    pub engine_ended: Option<u64>,
    /// The first output was sent.
    pub upload_started: Option<u64>,
    /// The last output was durable.
    pub upload_ended: Option<u64>,
}

/// A phase whose durations a run keeps a histogram of.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Phase {
    /// Pending until leased.
    Queue,
    /// Leased until its inputs were there.
    Stage,
    /// First engine step until the last one's end.
    Engine,
    /// First output until the last one was durable.
    Upload,
    /// Leased until the last moment before it was completed.
    Total,
}

impl Phase {
    /// All phases, in their order in time.
    pub const ALL: [Self; 5] = [Self::Queue, Self::Stage, Self::Engine, Self::Upload, Self::Total];

    /// The word in keys and tables.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Queue => "queue",
            Self::Stage => "stage",
            Self::Engine => "engine",
            Self::Upload => "upload",
            Self::Total => "total",
        }
    }
}

/// The moments of a completed attempt, as the task's hash keeps them in the one field `timings_ms`:
/// the Redis time of *queued*, then the ms from each moment to the next, `+` between them, `-` where a phase did not take place.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, serde::Serialize)]
pub struct Timings {
    /// What the worker saw.
    #[serde(flatten)]
    pub moments: Moments,
    /// The script recorded the success.
    pub completed: Option<u64>,
}

impl Moments {
    /// As the field `timings_ms` begins, and the last moment, from which the script adds the step to the completion.
    pub fn steps(&self) -> (String, u64) {
        let mut latest = 0;
        let step = |moment: Option<u64>| {
            let step = moment.map_or("-".to_owned(), |at| at.saturating_sub(latest).to_string());
            latest = latest.max(moment.unwrap_or(0));
            step
        };
        let steps: Vec<String> = self.in_order().into_iter().map(step).collect();
        (steps.join("+"), latest)
    }

    /// How long each phase took, in ms; `None` for one that did not take place.
    pub fn durations(&self) -> [(Phase, Option<u64>); 5] {
        let between = |from: Option<u64>, to: Option<u64>| Some(to?.saturating_sub(from?));
        let latest = self.in_order().into_iter().flatten().max();
        [
            (Phase::Queue, between(Some(self.queued), Some(self.leased))),
            (Phase::Stage, between(Some(self.leased), self.staged)),
            (Phase::Engine, between(self.engine_started, self.engine_ended)),
            (Phase::Upload, between(self.upload_started, self.upload_ended)),
            (Phase::Total, between(Some(self.leased), latest)),
        ]
    }

    /// All moments in their order.
    pub const fn in_order(&self) -> [Option<u64>; 7] {
        [
            Some(self.queued),
            Some(self.leased),
            self.staged,
            self.engine_started,
            self.engine_ended,
            self.upload_started,
            self.upload_ended,
        ]
    }
}

/// The histogram's bucket of a duration: the lowest power of √2, rounded up, that is not below it, and at least 1.
pub fn bucket_of(ms: u64) -> u64 {
    let powers = (0..64).flat_map(|exponent| {
        let power = 1_u128 << exponent;
        [power, (2 * power * power - 1).isqrt() + 1]
    });
    let bucket = powers.map(|power| u64::try_from(power).unwrap_or(u64::MAX)).find(|power| *power >= ms);
    bucket.unwrap_or(u64::MAX)
}

impl Timings {
    /// Reads the field `timings_ms`; `None` if it is not of that form.
    pub fn parse(text: &str) -> Option<Self> {
        let mut at = 0_u64;
        let mut moments = Vec::with_capacity(8);
        for part in text.split('+') {
            if part == "-" {
                moments.push(None);
                continue;
            }
            at = at.checked_add(part.parse().ok()?)?;
            moments.push(Some(at));
        }
        let [queued, leased, staged, engine_started, engine_ended, upload_started, upload_ended, completed] =
            moments.try_into().ok()?;
        Some(Self {
            moments: Moments {
                queued: queued?,
                leased: leased?,
                staged,
                engine_started,
                engine_ended,
                upload_started,
                upload_ended,
            },
            completed,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_field_is_the_start_and_then_steps() {
        let timings = Timings::parse("1763860000000+50+3+1+2500+0+12+4").unwrap();
        assert_eq!(timings.moments.leased, 1_763_860_000_050);
        assert_eq!(timings.moments.engine_ended, Some(1_763_860_002_554));
        assert_eq!(timings.completed, Some(1_763_860_002_570));
    }

    #[test]
    fn phases_that_did_not_take_place_are_absent() {
        let timings = Timings::parse("100+5+1+-+-+-+-+4").unwrap();
        assert_eq!(timings.moments.engine_started, None);
        assert_eq!(timings.completed, Some(110));
    }

    #[test]
    fn what_moments_write_is_read_again() {
        let moments =
            Moments { queued: 1_000, leased: 1_050, engine_started: Some(1_060), ..Moments::default() };
        let (steps, latest) = moments.steps();
        assert_eq!((steps.as_str(), latest), ("1000+50+-+10+-+-+-", 1_060));
        let timings = Timings::parse(&format!("{steps}+4")).unwrap();
        assert_eq!((timings.moments, timings.completed), (moments, Some(1_064)));
    }

    #[test]
    fn a_phase_lasts_from_its_beginning_to_its_end() {
        let moments = Moments {
            queued: 10,
            leased: 30,
            staged: Some(31),
            engine_started: Some(40),
            engine_ended: Some(35),
            upload_started: None,
            upload_ended: Some(90),
        };
        let durations = moments.durations().map(|(_, ms)| ms);
        assert_eq!(durations, [Some(20), Some(1), Some(0), None, Some(60)]);
    }

    #[test]
    fn buckets_are_the_powers_of_the_square_root_of_2() {
        let buckets = [0, 1, 2, 3, 4, 5, 6, 7, 8, 11, 12, 13].map(bucket_of);
        assert_eq!(buckets, [1, 1, 2, 3, 4, 6, 6, 8, 8, 12, 12, 16]);
        assert_eq!([1_025, 1_449, 1_450].map(bucket_of), [1_449, 1_449, 2_048]);
        for power in (4..64).map(|exponent| 1_u64 << exponent) {
            assert_eq!([power - 1, power].map(bucket_of), [power, power]);
        }
        assert_eq!(bucket_of(u64::MAX), u64::MAX);
    }

    #[test]
    fn other_texts_are_refused() {
        for bad in ["", "1", "1+2+3+4+5+6+7", "1+2+3+4+5+6+7+8+9", "-+1+1+1+1+1+1+1", "a+1+1+1+1+1+1+1"] {
            assert_eq!(Timings::parse(bad), None, "{bad}");
        }
    }
}
