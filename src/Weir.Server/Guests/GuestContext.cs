// Where the code of an inline guest continues after an await: on its loop, as that guest, so that the watchdog knows
// whose code has the thread. Posts come from any thread; what is posted runs on the loop.
namespace Weir.Server;

/// <summary>The synchronization context of a guest on a loop: what it awaits continues there.</summary>
internal sealed class GuestContext(LoopExchange exchange) : SynchronizationContext
{
    public override void Post(SendOrPostCallback d, object? state)
    {
        void Continue() => Enter(d, state);
        if (exchange.Loop.IsOnThread)
        {
            exchange.Loop.Ready(Continue);
        }
        else
        {
            exchange.Loop.Post(Continue);
        }
    }

    public override void Send(SendOrPostCallback d, object? state)
    {
        if (exchange.Loop.IsOnThread)
        {
            Enter(d, state);
            return;
        }
        using var done = new ManualResetEventSlim();
        exchange.Loop.Post(() =>
        {
            Enter(d, state);
            done.Set();
        });
        done.Wait();
    }

    public override SynchronizationContext CreateCopy() => this;

    private void Enter(SendOrPostCallback d, object? state)
    {
        SynchronizationContext? before = Current;
        SetSynchronizationContext(this);
        LoopExchange? inside = exchange.Guests.Enter(exchange);
        try
        {
            d(state);
        }
        catch (Exception e)
        {
            // An `async void` of the guest: its failure is nobody's answer.
            exchange.Guests.Complain(e);
        }
        finally
        {
            exchange.Guests.Leave(inside);
            SetSynchronizationContext(before);
        }
    }
}
