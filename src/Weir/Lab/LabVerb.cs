// `weir lab` as a verb: its options as one table, for the parser and the help text. Pure.
namespace Weir.Lab;

internal static class LabVerb
{
    public static VerbOption[] Options { get; } =
    [
        new("--web", null, null, "a page with the controls and pictures, on http://localhost:8090"),
        new("--models", 'm', "LIST", "models to compare, with commas: " + string.Join(", ", LabPlan.Models)),
        new("--requests", 'n', "N", "requests at once (default 30)"),
        new("--delay", 'd', "TIME", "how long each handler waits (default 1s)"),
        new("--cpu", null, "TIME", "how long each handler computes (default 0)"),
        new("--block", null, null, "handlers block their thread while they wait"),
        new("--threads", 't', "N", "threads of a pool (default 10)"),
        new("--queue", 'q', "N", "how many may wait for a thread (default 100)"),
        new("--backlog", 'b', "N", "connections that the kernel keeps before they are accepted (default 511)"),
        new("--stop-accepting", null, null, "when the queue is full nobody is accepted (default: 503)"),
        new("--timeout", null, "TIME", "how long a handler, or the head of a request, may take"),
        new("--keep-alive", 'k', "N", "requests of one connection, one after the other (default 1)"),
        new("--slow-clients", 's', "N", "clients that send one byte a second and begin first"),
        new("--idle", 'i', "N", "keep-alive connections that stay and do nothing"),
        new("--json", null, "FILE", "save every event and figure"),
        new("--svg", null, "FILE", "save the pictures"),
    ];

    public const int DefaultPort = 8090;
}
