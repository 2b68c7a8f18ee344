//! `fanfare top`: a live view of a running daemon, over its admin listener.
//!
//! A thread asks the daemon, a second apart; the other draws, and takes keys. What is asked costs
//! the daemon the same as the commands: nothing is kept for it.

mod keys;
mod state;
mod view;

use self::keys::{TopWish, press};
use self::state::{TopList, TopNews, TopState, TopTab};
use self::view::draw;
use super::CliError;
use super::error::CliStatus;
use super::reach::{AdminReach, admin_command};
use ratatui::DefaultTerminal;
use ratatui::crossterm::cursor::Show;
use ratatui::crossterm::event::{self, Event};
use ratatui::crossterm::execute;
use rustix::event::{PollFd, PollFlags, poll};
use rustix::io::Errno;
use serde_json::Value;
use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM};
use std::io::{self, IsTerminal as _};
use std::panic;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::sync::mpsc::{Receiver, RecvTimeoutError, SyncSender, TrySendError, sync_channel};
use std::time::{Duration, Instant};

/// Time between questions about the state.
const STATUS_INTERVAL: Duration = Duration::from_secs(1);
/// Questions about the state for each about a list, which looks at every session.
const STATUSES_PER_LIST: u32 = 2;
/// Longest silence of the daemon before that is what is shown.
const PATIENCE: Duration = Duration::from_secs(5);
/// Rows that are asked for: more than a tall terminal shows.
const ROWS: &str = "100";
/// Longest wait for a key, before what the daemon has told is looked for.
const KEY_PATIENCE: Duration = Duration::from_millis(100);
/// Answers, and wishes, that wait for the other thread; each looks several times a second.
const WAITING_MAX: usize = 16;

admin_command! {
/// Show what a running daemon does, live: rates, latencies, sessions by dialect, the slowest clients,
/// the largest backlogs, the last ends. Keys sort, filter and end sessions.
#[argh(
    subcommand,
    name = "top",
    example = "{command_name}\n\
               sudo {command_name}",
    note = "The manual: fanfare help admin"
)]
pub TopCommand {}
}

impl TopCommand {
    /// Runs the command.
    ///
    /// # Errors
    /// Why it could not be done.
    pub fn run(self) -> Result<(), CliError> {
        if !io::stdout().is_terminal() {
            return Err(CliError::usage(
                "the view needs a terminal; `fanfare sessions` and GET /v1/status are for programs",
            ));
        }
        let reach = self.reach()?.patient_for(PATIENCE);
        // Before the screen is taken: what is wrong now is told as by every command.
        let status = reach.ask("GET", "/v1/status", &[])?.good()?.json()?;

        let past = reach.ask("GET", "/v1/history", &[]).and_then(|answer| answer.good()?.json());

        let is_ended = Arc::<AtomicBool>::default();
        for signal in [SIGTERM, SIGHUP, SIGINT] {
            let registered = signal_hook::flag::register(signal, Arc::clone(&is_ended));
            registered.map_err(|error| failed(&error))?;
        }
        std::thread::spawn(end_with_terminal);
        let (tell, news) = sync_channel(WAITING_MAX);
        let (wish, wishes) = sync_channel(WAITING_MAX);
        std::thread::spawn(move || ask(&reach, &wishes, &tell));

        let start = Instant::now();
        let mut state = TopState::default();
        state.hear(TopNews::Status(status), start.elapsed());
        // A daemon of an older release has none, and the plots then begin with what is seen.
        if let Ok(past) = past {
            state.recall(&past);
        }
        let mut screen = TopScreen::open().map_err(|error| failed(&error))?;
        let shown = show(&mut screen.0, &mut state, start, (&news, &wish), &is_ended);
        drop(screen);
        shown.map_err(|error| failed(&error))
    }
}

fn failed(error: &io::Error) -> CliError {
    CliError::new(format!("the terminal fails: {error}"))
}

/// The terminal while it is ours. It is given back however the program ends, short of SIGKILL.
struct TopScreen(DefaultTerminal);

impl TopScreen {
    fn open() -> io::Result<Self> {
        // A panic aborts the program without dropping anything.
        let tell = panic::take_hook();
        panic::set_hook(Box::new(move |info| {
            give_back();
            tell(info);
        }));
        ratatui::try_init().map(Self).inspect_err(|_| give_back())
    }
}

impl Drop for TopScreen {
    fn drop(&mut self) {
        give_back();
    }
}

fn give_back() {
    // There is nowhere to tell that this failed.
    let _ = ratatui::try_restore();
    let _ = execute!(io::stdout(), Show);
}

/// Ends the program once the terminal has gone, which crossterm would read from for ever: it takes
/// neither an end nor an error of the terminal for one.
fn end_with_terminal() {
    let (stdin, stdout) = (io::stdin(), io::stdout());
    // Nothing is waited for but a hang-up or an error, which are told without being asked for.
    let mut terminals = vec![PollFd::new(&stdout, PollFlags::empty())];
    if stdin.is_terminal() {
        terminals.push(PollFd::new(&stdin, PollFlags::empty()));
    }
    while poll(&mut terminals, None) == Err(Errno::INTR) {}
    // There is nothing left to give back.
    std::process::exit(CliStatus::Failure as i32);
}

/// Draws and takes keys until the person has seen enough, or a signal ends it.
fn show(
    screen: &mut DefaultTerminal,
    state: &mut TopState,
    start: Instant,
    (news, wish): (&Receiver<TopNews>, &SyncSender<TopWish>),
    is_ended: &AtomicBool,
) -> io::Result<()> {
    let mut is_other = true;
    while !is_ended.load(Relaxed) {
        for news in news.try_iter() {
            state.hear(news, start.elapsed());
            is_other = true;
        }
        if is_other {
            screen.draw(|frame| draw(state, frame))?;
        }
        is_other = event::poll(KEY_PATIENCE)?;
        if !is_other {
            continue;
        }
        // A change of the terminal's size only wants drawing.
        let Event::Key(key) = event::read()? else { continue };
        match press(state, key) {
            Some(TopWish::Quit) => return Ok(()),
            Some(wanted) => {
                if let Err(TrySendError::Full(_)) = wish.try_send(wanted) {
                    state.message = "the daemon has not answered yet; try again".into();
                }
            }
            None => {}
        }
    }
    Ok(())
}

/// Asks the daemon until nothing is wanted any more.
fn ask(reach: &AdminReach, wishes: &Receiver<TopWish>, tell: &SyncSender<TopNews>) {
    let (mut list, mut turn) = (TopList::default(), 0u32);
    // It ends with the thread that draws, which has the other end of both.
    let say = |news| tell.send(news).is_ok();
    loop {
        let next = Instant::now() + STATUS_INTERVAL;
        if !say(answer(reach, "GET", "/v1/status", &[], TopNews::Status)) {
            return;
        }
        if turn.is_multiple_of(STATUSES_PER_LIST) && !say(rows(reach, &list)) {
            return;
        }
        turn = turn.wrapping_add(1);

        loop {
            match wishes.recv_timeout(next.saturating_duration_since(Instant::now())) {
                Err(RecvTimeoutError::Timeout) => break,
                Err(RecvTimeoutError::Disconnected) | Ok(TopWish::Quit) => return,
                Ok(TopWish::List(wanted)) => list = wanted,
                Ok(TopWish::Kick(id)) => {
                    let path = format!("/v1/sessions/{id}");
                    if !say(answer(reach, "DELETE", &path, &[], |answer| {
                        TopNews::Kicked(answer["kicked"].as_u64().unwrap_or(0))
                    })) {
                        return;
                    }
                }
            }
            if !say(rows(reach, &list)) {
                return;
            }
        }
    }
}

/// The rows of a list.
fn rows(reach: &AdminReach, list: &TopList) -> TopNews {
    let path = match list.tab {
        TopTab::Sessions => "/v1/sessions",
        TopTab::Backlogs => "/v1/backlogs",
        TopTab::Ended => "/v1/ended",
    };
    let own = list.parameters();
    let mut parameters: Vec<(&str, &str)> =
        own.iter().map(|(name, value)| (*name, value.as_str())).collect();
    if list.tab != TopTab::Backlogs {
        parameters.push(("count", ROWS));
    }
    answer(reach, "GET", path, &parameters, |mut answer| {
        let rows = match answer[list.tab.rows()].take() {
            Value::Array(rows) => rows,
            _ => Vec::new(),
        };
        TopNews::Rows(list.clone(), rows)
    })
}

/// What the daemon tells when it is asked.
fn answer(
    reach: &AdminReach,
    method: &str,
    path: &str,
    parameters: &[(&str, &str)],
    make: impl FnOnce(Value) -> TopNews,
) -> TopNews {
    let answered = match reach.ask(method, path, parameters) {
        Ok(answered) => answered,
        Err(error) => return TopNews::Silent(error.to_string()),
    };
    match answered.good().and_then(|answered| answered.json()) {
        Ok(answered) => make(answered),
        Err(error) => TopNews::Refused(error.to_string()),
    }
}
