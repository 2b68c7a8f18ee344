//! What `fanfare top` draws, in as many rows and columns as there are; it is made for 80 by 24.

use super::super::error::printable;
use super::super::output::{grouped, size};
use super::super::sessions::{age, since_s, text};
use super::state::{TopPrompt, TopRate, TopState, TopTab};
use ratatui::Frame;
use ratatui::layout::{Constraint, Layout, Rect};
use ratatui::style::{Color, Style, Stylize as _};
use ratatui::text::{Line, Span};
use ratatui::widgets::{Cell, Row, Sparkline, Table, TableState};
use serde_json::Value;

/// Columns from which there is room for more of each session.
const WIDE_COLUMNS: u16 = 120;
/// Characters of a message that are drawn; what has no room is cut off.
const MESSAGE_CHARS_MAX: usize = 400;
/// The colour of what is chosen or can be pressed.
const ACCENT: Color = Color::Cyan;

/// Draws all of it.
pub(super) fn draw(state: &TopState, frame: &mut Frame<'_>) {
    let [title, rates, _, sessions, _, tabs, list, last] = Layout::vertical([
        Constraint::Length(1),
        Constraint::Length(TopRate::ALL.len() as u16),
        Constraint::Length(1),
        Constraint::Length(1),
        Constraint::Length(1),
        Constraint::Length(1),
        Constraint::Fill(1),
        Constraint::Length(1),
    ])
    .areas(frame.area());
    draw_title(state, frame, title);
    draw_rates(state, frame, rates);
    frame.render_widget(kinds(&state.status), sessions);
    frame.render_widget(tab_line(state), tabs);
    draw_list(state, frame, list);
    frame.render_widget(last_line(state), last);
}

/// What runs, and how it is.
fn draw_title(state: &TopState, frame: &mut Frame<'_>, area: Rect) {
    let status = &state.status;
    let of = |name: &str| text(&status[name]);
    let named = Line::from(vec![
        "fanfare ".bold(),
        of("version").bold(),
        format!("  up {}", age(status["uptime_s"].as_u64().unwrap_or(0))).dim(),
        format!("  pid {}  {}", status["pid"].as_u64().unwrap_or(0), of("driver")).dim(),
    ]);
    let (condition, colour) = condition(state);
    let condition = Line::styled(condition, Style::new().fg(colour).bold());
    let width = condition.width().min(area.width.into()) as u16;
    let [left, right] =
        Layout::horizontal([Constraint::Fill(1), Constraint::Length(width)]).areas(area);
    frame.render_widget(named, left);
    frame.render_widget(condition, right);
}

/// The worst that is so, in a few words.
fn condition(state: &TopState) -> (String, Color) {
    let status = &state.status;
    let first = |name: &str| status[name].as_array().and_then(|all| all.first());
    if state.silence.is_some() {
        return ("does not answer".into(), Color::Red);
    }
    if let Some(hung) = first("hung") {
        return (format!("{} hangs", text(&hung["thread"])), Color::Red);
    }
    if status["draining"] == true {
        return ("stopping".into(), Color::Yellow);
    }
    if let Some(gap) = first("gaps") {
        let dialects = gap["dialects"].as_array().into_iter().flatten().map(text);
        return (format!("not for {}", dialects.collect::<Vec<_>>().join(", ")), Color::Yellow);
    }
    match status["ready"] == true {
        true => ("ready".into(), Color::Green),
        false => ("starting".into(), Color::Yellow),
    }
}

/// The rates with their plots, and beside them the latencies.
fn draw_rates(state: &TopState, frame: &mut Frame<'_>, area: Rect) {
    let [names, values, plots, _, beside] = Layout::horizontal([
        Constraint::Length(13),
        Constraint::Length(11),
        Constraint::Fill(1),
        Constraint::Length(2),
        Constraint::Length(22),
    ])
    .spacing(1)
    .areas(area);
    for (rate, (name, at)) in TopRate::ALL
        .into_iter()
        .zip(["events/s", "deliveries/s", "sent/s", "ends/s"].into_iter().zip(0..area.height))
    {
        let line = |area: Rect| Rect { y: area.y + at, height: 1, ..area };
        let value = match rate {
            TopRate::BytesOut => size(state.rate(rate) as u64),
            _ => frequency(state.rate(rate)),
        };
        frame.render_widget(name.dim(), line(names));
        frame.render_widget(Line::from(value.bold()).right_aligned(), line(values));

        // The last column is now. Hundredths, because a spark is a whole number.
        let all: Vec<u64> = state.rates(rate).map(|value| (value * 100.0) as u64).collect();
        let width = plots.width.min(all.len() as u16);
        let last = Rect { x: plots.right() - width, width, ..line(plots) };
        let from = all.len() - usize::from(width);
        let spark = Sparkline::default().data(&all[from..]).style(Style::new().fg(ACCENT));
        frame.render_widget(spark, last);
    }
    for (at, (name, value)) in (0..area.height).zip(beside_rates(state)) {
        let line = Rect { y: beside.y + at, height: 1, ..beside };
        frame.render_widget(name.dim(), line);
        frame.render_widget(Line::from(value.bold()).right_aligned(), line);
    }
}

fn beside_rates(state: &TopState) -> [(&'static str, String); TopRate::ALL.len()] {
    let latency = |share| state.latency(share).map_or_else(|| "-".into(), duration);
    [
        ("latency p50", latency(0.5)),
        ("        p99", latency(0.99)),
        ("        p999", latency(0.999)),
        ("waiting", grouped(state.status["waiting"].as_u64().unwrap_or(0))),
    ]
}

/// The connections, and the sessions by dialect.
fn kinds(status: &Value) -> Line<'static> {
    let mut spans =
        vec!["connections ".dim(), grouped(status["connections"].as_u64().unwrap_or(0)).bold()];
    for (kind, count) in status["sessions"].as_object().into_iter().flatten() {
        spans.push(format!("   {} ", printable(kind, MESSAGE_CHARS_MAX)).dim());
        spans.push(grouped(count.as_u64().unwrap_or(0)).bold());
    }
    Line::from(spans)
}

/// The tabs, and how the list is made.
fn tab_line(state: &TopState) -> Line<'static> {
    let list = &state.list;
    let mut spans: Vec<Span<'_>> = Vec::new();
    for (tab, name) in TopTab::ALL.into_iter().zip(["sessions", "backlogs", "ended"]) {
        let name = Span::from(format!(" {name} "));
        spans.push(if tab == list.tab { name.fg(ACCENT).reversed() } else { name.dim() });
        spans.push(" ".into());
    }
    let order = match (list.tab, list.is_by_age) {
        (TopTab::Sessions, false) => "the slowest clients first",
        (TopTab::Sessions, true) => "the oldest first",
        (TopTab::Backlogs, _) => "the most messages first",
        (TopTab::Ended, _) => "the last first",
    };
    spans.push(format!("  {order}").dim());
    if !list.filter.is_empty() {
        spans.push("  only ".dim());
        spans.push(printable(&list.filter, MESSAGE_CHARS_MAX).bold());
    }
    Line::from(spans)
}

fn draw_list(state: &TopState, frame: &mut Frame<'_>, area: Rect) {
    let columns = columns(state.list.tab, area.width >= WIDE_COLUMNS);
    let cell = |column: &TopColumn, line: Line<'static>| {
        Cell::from(if column.is_number { line.right_aligned() } else { line })
    };
    let head = Row::new(columns.iter().map(|column| cell(column, Line::from(column.name.dim()))));
    let rows = state.rows().map(|row| {
        Row::new(columns.iter().map(|column| cell(column, Line::from((column.value)(row)))))
    });
    let widths = columns.iter().map(|column| column.width);
    let chosen = Style::new().fg(ACCENT).reversed();
    let table = Table::new(rows, widths).header(head).row_highlight_style(chosen);
    let mut place =
        TableState::default().with_selected(state.chosen().filter(|_| state.session().is_some()));
    frame.render_stateful_widget(table, area, &mut place);
}

/// A column of a list.
struct TopColumn {
    name: &'static str,
    width: Constraint,
    is_number: bool,
    value: fn(&Value) -> String,
}

fn columns(tab: TopTab, is_wide: bool) -> Vec<TopColumn> {
    let words = |name, width, value| TopColumn { name, width, is_number: false, value };
    let number = |name, width, value| TopColumn {
        is_number: true,
        ..words(name, Constraint::Length(width), value)
    };
    let [id, dialect, address] =
        [Constraint::Length(11), Constraint::Length(15), Constraint::Length(21)];
    let rest = Constraint::Fill(1);
    match tab {
        TopTab::Sessions => {
            let mut all = vec![
                words("id", id, |it| text(&it["id"])),
                words("dialect", dialect, |it| text(&it["dialect"])),
                words("address", address, |it| text(&it["address"])),
                number("age", 7, |it| age(since_s(&it["since_ms"]))),
                number("waits", 9, |it| bytes(&it["backlog_bytes"])),
            ];
            if is_wide {
                all.push(number("sent", 9, |it| bytes(&it["bytes_out"])));
                all.push(number("topics", 6, |it| count(&it["subscriptions"])));
                all.push(words("phase", Constraint::Length(9), |it| text(&it["phase"])));
            }
            all.push(words("subject", rest, |it| text(&it["subject"])));
            all
        }
        TopTab::Backlogs => vec![
            number("messages", 12, |it| count(&it["messages"])),
            words("topic", Constraint::Fill(3), |it| text(&it["topic"])),
            words("subscription", rest, |it| text(&it["subscription"])),
        ],
        TopTab::Ended => {
            let mut all = vec![
                number("ago", 7, |it| age(since_s(&it["at_ms"]))),
                words("reason", Constraint::Length(16), |it| text(&it["reason"])),
                words("dialect", dialect, |it| text(&it["dialect"])),
                words("address", address, |it| text(&it["address"])),
            ];
            if is_wide {
                all.push(words("id", id, |it| text(&it["id"])));
                all.push(number("lasted", 7, |it| age(it["age_s"].as_u64().unwrap_or(0))));
                all.push(number("sent", 9, |it| bytes(&it["bytes_out"])));
                all.push(words("subject", rest, |it| text(&it["subject"])));
            }
            all.push(words("why", rest, |it| text(&it["detail"])));
            all
        }
    }
}

fn bytes(value: &Value) -> String {
    size(value.as_u64().unwrap_or(0))
}

fn count(value: &Value) -> String {
    grouped(value.as_u64().unwrap_or(0))
}

/// What is asked, or what has happened, or which keys there are.
fn last_line(state: &TopState) -> Line<'static> {
    match &state.prompt {
        TopPrompt::Filter(text) => {
            let typed = printable(text, MESSAGE_CHARS_MAX);
            return Line::from(vec![
                "only ".fg(ACCENT),
                format!("{typed}▏").bold(),
                "  dialect, address, topic or subject".dim(),
            ]);
        }
        TopPrompt::Kick(id) => {
            let id = printable(id, MESSAGE_CHARS_MAX);
            return Line::from(
                format!("end the session {id}? y, or any other key").yellow().bold(),
            );
        }
        TopPrompt::None => {}
    }
    if let Some(reason) = &state.silence {
        return Line::from(printable(reason, MESSAGE_CHARS_MAX).red());
    }
    if !state.message.is_empty() {
        return Line::from(printable(&state.message, MESSAGE_CHARS_MAX).yellow());
    }
    let sessions: &[(&str, &str)] = match state.list.tab {
        TopTab::Sessions => &[("↑↓", "choose"), ("k", "kick"), ("s", "sort")],
        TopTab::Backlogs | TopTab::Ended => &[],
    };
    let keys = [sessions, &[("/", "filter"), ("tab", "next list"), ("q", "quit")]].concat();
    let spans =
        keys.into_iter().flat_map(|(key, does)| [key.fg(ACCENT), format!(" {does}   ").dim()]);
    Line::from(spans.collect::<Vec<_>>())
}

/// So many in a second.
fn frequency(value: f64) -> String {
    if value > 0.0 && value < 10.0 { format!("{value:.1}") } else { grouped(value.round() as u64) }
}

/// A length of time in microseconds, in its largest unit.
fn duration(us: f64) -> String {
    match us {
        ..1000.0 => format!("{us:.0} µs"),
        ..1_000_000.0 => format!("{:.1} ms", us / 1e3),
        _ => format!("{:.1} s", us / 1e6),
    }
}

#[cfg(test)]
mod tests {
    use super::super::state::{TopList, TopNews};
    use super::*;
    use ratatui::Terminal;
    use ratatui::backend::TestBackend;
    use serde_json::json;
    use std::time::{Duration, SystemTime, UNIX_EPOCH};

    fn status(events: u64) -> TopNews {
        let mut latency = vec![0; 17];
        latency[1] = events;
        TopNews::Status(json!({
            "version": "0.1.0", "pid": 4711, "driver": "io_uring", "uptime_s": 300_000,
            "ready": true, "draining": false, "hung": [], "gaps": [], "waiting": 12_345,
            "connections": 9512, "sessions": { "echo": 9000, "wazo": 512 },
            "latency": { "counts": latency },
            "totals": {
                "events": { "unix": events }, "deliveries": { "echo": 100 * events },
                "bytes_out": 5000 * events, "ends": { "slow": 0 },
            },
        }))
    }

    fn sessions() -> Vec<Value> {
        let now_ms = SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_millis() as u64;
        let session = |id: &str, waits: u64, subject: &str| {
            json!({
                "id": id, "dialect": "personium-event", "address": "192.0.2.7:47110",
                "since_ms": now_ms - 7_300_000, "backlog_bytes": waits, "bytes_out": 4096,
                "subscriptions": 3, "phase": "open", "subject": subject,
            })
        };
        vec![session("0-17-42", 300_000, "ann\u{1b}[2J"), session("1-9-3", 0, "bob")]
    }

    /// The lines of a screen.
    fn drawn(state: &TopState, width: u16, height: u16) -> Vec<String> {
        let mut terminal = Terminal::new(TestBackend::new(width, height)).unwrap();
        terminal.draw(|frame| draw(state, frame)).unwrap();
        let buffer = terminal.backend().buffer();
        let rows = buffer.content().chunks(width.into());
        let lines = rows.map(|row| row.iter().map(|cell| cell.symbol()).collect::<String>());
        lines.map(|line| line.trim_end().to_owned()).collect()
    }

    #[test]
    fn all_of_it_has_room_on_80_columns_and_24_rows() {
        let mut state = TopState::default();
        for second in 0..4 {
            state.hear(status(1000 + second * second * 50), Duration::from_secs(second));
        }
        state.hear(TopNews::Rows(TopList::default(), sessions()), Duration::ZERO);
        let lines = drawn(&state, 80, 24);
        let expected = [
            "fanfare 0.1.0  up 3 d  pid 4711  io_uring                                  ready",
            "events/s              250                          ▁▄█    latency p50      38 µs",
            "deliveries/s       25,000                          ▁▄█            p99      50 µs",
            "sent/s            1.2 MiB                          ▁▄█            p999     50 µs",
            "ends/s                  0                                 waiting         12,345",
            "",
            "connections 9,512   echo 9,000   wazo 512",
            "",
            " sessions   backlogs   ended    the slowest clients first",
            "id          dialect         address                   age     waits subject",
            "0-17-42     personium-event 192.0.2.7:47110           2 h 293.0 KiB ann\\u{1b}[2J",
            "1-9-3       personium-event 192.0.2.7:47110           2 h       0 B bob",
        ];
        for (at, expected) in expected.iter().enumerate() {
            assert_eq!(lines[at], *expected, "{lines:#?}");
        }
        assert_eq!(lines[23], "↑↓ choose   k kick   s sort   / filter   tab next list   q quit");
        let wide = drawn(&state, 160, 24);
        assert!(wide[10].contains("4.0 KiB") && wide[10].contains(" open "), "{}", wide[10]);
    }

    #[test]
    fn what_is_wrong_or_asked_is_drawn_and_no_size_is_too_small() {
        let mut state = TopState::default();
        state.hear(status(1), Duration::ZERO);
        state.hear(TopNews::Rows(TopList::default(), sessions()), Duration::ZERO);
        let last = |state: &TopState| drawn(state, 80, 24).pop().unwrap();
        state.prompt = TopPrompt::Kick("0-17-42".into());
        assert_eq!(last(&state), "end the session 0-17-42? y, or any other key");
        state.prompt = TopPrompt::Filter("echo".into());
        assert!(last(&state).starts_with("only echo▏"), "{}", last(&state));
        state.prompt = TopPrompt::None;
        state.hear(TopNews::Refused("there is no such\u{7} session".into()), Duration::ZERO);
        assert_eq!(last(&state), "there is no such\\u{7} session");

        for (name, value, expected) in [
            ("hung", json!([{ "thread": "shard-1", "silent_s": 7 }]), "shard-1 hangs"),
            ("draining", json!(true), "stopping"),
            (
                "gaps",
                json!([{ "dialects": ["wazo", "echo"], "reason": "x" }]),
                "not for wazo, echo",
            ),
            ("ready", json!(false), "starting"),
        ] {
            let before = state.status[name].take();
            state.status[name] = value;
            assert!(drawn(&state, 80, 24)[0].ends_with(expected), "{expected}");
            state.status[name] = before;
        }
        state.hear(TopNews::Silent("127.0.0.1:9500 does not answer".into()), Duration::ZERO);
        assert!(drawn(&state, 80, 24)[0].ends_with("does not answer"));
        assert_eq!(last(&state), "127.0.0.1:9500 does not answer");
        for (width, height) in [(1, 1), (1, 40), (10, 3), (40, 9), (300, 100)] {
            drawn(&state, width, height);
        }
    }

    #[test]
    fn backlogs_and_ends_are_lists_of_their_own() {
        let mut state = TopState::default();
        let list = TopList { tab: TopTab::Backlogs, filter: "ord".into(), ..TopList::default() };
        state.show(list.clone());
        let rows = ["persistent://t/n/orders", "persistent://t/n/other"]
            .map(|topic| json!({ "topic": topic, "subscription": "s", "messages": 1234 }));
        state.hear(TopNews::Rows(list, rows.to_vec()), Duration::ZERO);
        let lines = drawn(&state, 80, 24);
        assert!(lines[8].ends_with("the most messages first  only ord"), "{}", lines[8]);
        assert!(lines[10].starts_with("       1,234 persistent://t/n/orders"), "{}", lines[10]);
        assert_eq!(lines[11], "", "it does not match");

        let list = TopList { tab: TopTab::Ended, ..TopList::default() };
        state.show(list.clone());
        let end = json!({
            "at_ms": 0, "reason": "slow", "dialect": "wazo", "address": "[2001:db8::1]:4711",
            "detail": "too slow", "refused": false,
        });
        state.hear(TopNews::Rows(list, vec![end]), Duration::ZERO);
        let line = &drawn(&state, 80, 24)[10];
        assert!(line.contains(" slow ") && line.ends_with(" too slow"), "{line}");
    }
}
