// The laboratory's arithmetic: stories put together from events, figures, and options read from words.
using Weir.Lab;
using Weir.Server;
using Xunit;

namespace Weir.Tests.Unit.Lab;

public sealed class LabRowTests
{
    private static ClientMark Mark(int number, long connection, long begin, long end, int status = 200) => new()
    {
        Number = number,
        Connection = connection,
        BeginUs = begin,
        ConnectedUs = begin + 1,
        SentUs = begin + 2,
        EndUs = end,
        Status = status,
    };

    private static AppServerEvent Event(AppServerEventKind kind, long connection, int thread, long us,
        int request = 1) =>
        new(kind, connection, request, thread, -1, kind == AppServerEventKind.Answered ? 200 : 0, us);

    private static LabView View(List<AppServerEvent> events, List<ClientMark> marks,
        string model = "thread-pool") => new()
    {
        Spec = new LabRunSpec { Model = model, Title = "t", Requests = marks.Count },
        State = LabState.Done,
        Samples = [],
        Events = [.. events],
        Rows = LabRow.Of(events, marks),
    };

    [Fact]
    public void A_thread_that_begins_again_has_ended_even_if_its_loop_tells_later()
    {
        LabFigures figures = LabFigures.Of(View(
        [
            Event(AppServerEventKind.Started, 1, 7, 100), Event(AppServerEventKind.Started, 2, 7, 200),
            Event(AppServerEventKind.Answered, 1, 5, 210), Event(AppServerEventKind.Answered, 2, 5, 310),
        ], [Mark(1, 1, 50, 220), Mark(2, 2, 50, 320)], "event-driven-thread-pool"));
        Assert.Equal(1, figures.AtOnce);
        Assert.Equal(2, figures.Waves);
        Assert.Equal(1, figures.HandlerThreads);
    }

    [Fact]
    public void A_loop_that_begins_again_has_both_under_way()
    {
        LabFigures figures = LabFigures.Of(View(
        [
            Event(AppServerEventKind.Started, 1, 7, 100), Event(AppServerEventKind.Started, 2, 7, 110),
            Event(AppServerEventKind.Answered, 1, 7, 200), Event(AppServerEventKind.Answered, 2, 7, 210),
        ], [Mark(1, 1, 50, 220), Mark(2, 2, 50, 220)], "event-driven"));
        Assert.Equal(2, figures.AtOnce);
        Assert.Equal(1, figures.Waves);
    }

    [Fact]
    public void A_client_that_was_told_nothing_is_matched_by_the_order_of_its_connect()
    {
        LabRow[] rows = LabRow.Of(
        [
            Event(AppServerEventKind.Accepted, 4, 1, 100, 0), Event(AppServerEventKind.Accepted, 5, 1, 120, 0),
            Event(AppServerEventKind.Accepted, 6, 1, 130, 0), Event(AppServerEventKind.Started, 5, 2, 140),
        ], [Mark(1, 0, 30, 0, 0), Mark(2, 5, 20, 200), Mark(3, 0, 10, 0, 0)]);
        Assert.Equal(6, rows[0].Connection);
        Assert.Equal(5, rows[1].Connection);
        Assert.Equal(4, rows[2].Connection);
    }

    [Fact]
    public void Options_take_the_place_of_the_experiments_numbers()
    {
        var values = new Dictionary<string, string>
        {
            ["--delay"] = "20ms",
            ["--requests"] = "4",
            ["--timeout"] = "2s",
        };
        LabOptions options = LabOptions.Read("slow", values, new HashSet<string>(), out _)!;
        LabRunSpec run = LabPlan.Of("slow", options).Runs[0];
        Assert.Equal(4, run.Requests);
        Assert.Equal(TimeSpan.FromMilliseconds(20), run.Delay);
        Assert.Equal(TimeSpan.FromSeconds(2), run.HeaderTimeout);
        Assert.Equal(TimeSpan.Zero, run.HandlerTimeout);
        Assert.Equal(10, run.SlowClients);
    }

    [Theory]
    [MemberData(nameof(Names))]
    public void Every_experiment_has_a_question_and_runs_that_name_models(string name)
    {
        LabPlan plan = LabPlan.Of(name, new LabOptions());
        Assert.EndsWith("?", plan.Question);
        Assert.NotEmpty(plan.Runs);
        Assert.All(plan.Runs, static r => Assert.Equal(r.Model, r.Concurrency.Name));
    }

    public static TheoryData<string> Names => [.. LabPlan.Names];
}
