//! What a run does over time: its phases, and how much of the full load there is in each.
//!
//! Plain arithmetic; knows no clock.

use std::sync::Arc;
use std::time::Duration;

use wsgate::time::Time;

use crate::profile::Profile;
use crate::schedule::Window;

/// Name of the phase whose messages are in no figure because the server is not warm.
pub const WARM_UP: &str = "warm-up";
/// Name of the phase whose messages are in the figures.
pub const MEASURED: &str = "measured";
/// Name of the phase whose messages are in no figure because the run is ending.
pub const COOL_DOWN: &str = "cool-down";

/// A part of a run in which messages are sent.
#[derive(Clone, PartialEq, Debug)]
pub struct Phase {
    /// Its name in the report.
    pub name: Arc<str>,
    /// How long it is; never nothing.
    pub lasts: Duration,
    /// Its messages are in the figures.
    pub measured: bool,
    /// Part of the full load, 0 to 1, at its beginning and at its end; evenly from one to
    /// the other in between.
    pub load: (f64, f64),
}

/// The phases in which messages are sent, in their order. Those that are measured follow
/// each other without another between them.
#[derive(Clone, PartialEq, Default, Debug)]
pub struct Course {
    phases: Vec<Phase>,
}

impl Course {
    /// A warm-up, the measurement and a cool-down, all under full load. What lasts no
    /// time is left out.
    pub fn plain(warm_up: Duration, measured: Duration, cool_down: Duration) -> Self {
        let phases = [(WARM_UP, warm_up), (MEASURED, measured), (COOL_DOWN, cool_down)];
        let phases = phases.into_iter().filter(|(_, lasts)| !lasts.is_zero());
        let phase =
            |(name, lasts): (&str, _)| Phase { name: name.into(), lasts, measured: name == MEASURED, load: (1.0, 1.0) };
        Self { phases: phases.map(phase).collect() }
    }

    /// A measurement under full load, and nothing else.
    pub fn steady(measured: Duration) -> Self {
        Self::plain(Duration::ZERO, measured, Duration::ZERO)
    }

    /// These phases.
    pub fn new(phases: Vec<Phase>) -> Self {
        let measured: Vec<_> = phases.iter().map(|phase| phase.measured).collect();
        let runs = measured.chunk_by(|a, b| a == b).filter(|run| run[0]).count();
        assert!(runs == 1, "{runs} measured parts; there is one");
        Self { phases }
    }

    /// The phases, in their order.
    pub fn phases(&self) -> &[Phase] {
        &self.phases
    }

    /// How long messages are sent in all.
    pub fn sending(&self) -> Duration {
        self.phases.iter().map(|phase| phase.lasts).sum()
    }

    /// How long messages are sent that are in the figures.
    pub fn measured(&self) -> Duration {
        self.phases.iter().filter(|phase| phase.measured).map(|phase| phase.lasts).sum()
    }

    /// How long messages are sent before that.
    pub fn warm_up(&self) -> Duration {
        self.phases.iter().take_while(|phase| !phase.measured).map(|phase| phase.lasts).sum()
    }

    /// The window in which messages are sent if the first one leaves at `start`.
    pub fn window(&self, start: Time) -> Window {
        let (warm_up, measured) = (self.warm_up(), self.measured());
        Window::new(start, warm_up, measured, self.sending() - warm_up - measured)
    }

    /// When messages are due if there are `rate` per second under full load.
    pub fn profile(&self, rate: f64) -> Profile {
        match self.is_steady() {
            true => Profile::constant(rate),
            false => Profile::ramps(self.phases.iter().map(|phase| {
                let (from, to) = phase.load;
                (phase.lasts, rate * from, rate * to)
            })),
        }
    }

    /// The load is full all the time.
    pub fn is_steady(&self) -> bool {
        self.phases.iter().all(|phase| phase.load == (1.0, 1.0))
    }

    /// The part of the full load at a time after the beginning, 0 to 1. After the end it
    /// is what it was there.
    pub fn load_at(&self, after: Duration) -> f64 {
        let mut begins = Duration::ZERO;
        for phase in &self.phases {
            if after < begins + phase.lasts {
                let (from, to) = phase.load;
                return from + (to - from) * (after - begins).div_duration_f64(phase.lasts);
            }
            begins += phase.lasts;
        }
        self.phases.last().map_or(1.0, |last| last.load.1)
    }

    /// How many of so many members the load asks for at a time after the beginning.
    pub fn members_at(&self, after: Duration, members: usize) -> usize {
        (self.load_at(after) * members as f64).round() as usize
    }

    /// How many of them are there when it begins.
    pub fn members_at_first(&self, members: usize) -> usize {
        self.members_at(Duration::ZERO, members)
    }

    /// The mean of the load over the phases that are measured.
    pub fn load_measured(&self) -> f64 {
        let (before, measured) = (self.warm_up(), self.measured());
        let profile = self.profile(1.0);
        let messages = profile.messages_in(before + measured) - profile.messages_in(before);
        // A plain course has no rounding to show.
        if self.is_steady() { 1.0 } else { messages / measured.as_secs_f64() }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    fn phase(seconds: u32, measured: bool, load: (f64, f64)) -> Phase {
        Phase { name: "a".into(), lasts: seconds * SECOND, measured, load }
    }

    #[test]
    fn a_plain_course_is_full_load_around_a_measurement() {
        let course = Course::plain(2 * SECOND, 5 * SECOND, Duration::ZERO);
        assert_eq!(course.phases().len(), 2);
        assert_eq!((course.warm_up(), course.measured(), course.sending()), (2 * SECOND, 5 * SECOND, 7 * SECOND));
        let window = course.window(Time(0));
        assert_eq!(window, Window::new(Time(0), 2 * SECOND, 5 * SECOND, Duration::ZERO));
        assert_eq!((course.load_at(SECOND), course.load_measured()), (1.0, 1.0));
        assert_eq!(course.profile(10.0), Profile::constant(10.0));
    }

    #[test]
    fn the_load_goes_evenly_from_one_value_to_the_next() {
        let course = Course::new(vec![
            phase(1, false, (1.0, 1.0)),
            phase(4, true, (0.0, 1.0)),
            phase(2, true, (0.5, 0.5)),
            phase(1, false, (0.1, 0.1)),
        ]);
        let loads: Vec<_> = [0, 1, 3, 5, 6, 7, 8, 99].map(|at| course.load_at(at * SECOND)).into();
        assert_eq!(loads, [1.0, 0.0, 0.5, 0.5, 0.5, 0.1, 0.1, 0.1]);
        assert!((course.load_measured() - 0.5).abs() < 1e-9, "{}", course.load_measured());
        assert_eq!(course.profile(10.0).messages_in(8 * SECOND).round(), 10.0 + 20.0 + 10.0 + 1.0);
    }

    #[test]
    fn without_phases_the_load_is_full_for_ever() {
        assert_eq!(Course::default().load_at(SECOND), 1.0);
        assert_eq!(Course::default().profile(3.0), Profile::constant(3.0));
    }

    #[test]
    #[should_panic(expected = "2 measured parts")]
    fn a_course_is_measured_in_one_piece() {
        Course::new([true, false, true].map(|measured| phase(1, measured, (1.0, 1.0))).into());
    }
}
