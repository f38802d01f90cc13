// An experiment under way: the plan, its runs, and their course. The terminal and the page both look at one of these.
namespace Weir.Lab;

internal sealed class LabSession
{
    private readonly LabRun[] _runs;

    public LabSession(LabPlan plan)
    {
        Plan = plan;
        _runs = [.. plan.Runs.Select(static spec => new LabRun(spec))];
    }

    public LabPlan Plan { get; }

    /// <summary>Every run has come to an end.</summary>
    public bool IsOver { get; private set; }

    public LabView[] Views() => [.. _runs.Select(static run => run.View())];

    public async Task RunAsync(CancellationToken stop)
    {
        if (Plan.Together)
        {
            await Task.WhenAll(_runs.Select(run => run.RunAsync(stop)));
        }
        else
        {
            foreach (LabRun run in _runs)
            {
                await run.RunAsync(stop);
            }
        }
        IsOver = true;
    }
}
