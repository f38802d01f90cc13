// A chat: a page of static files, an API for what was said, a SignalR hub for what is being said, a Razor page with
// numbers, and a stream of events. Served by Weir: `dotnet run -- --urls http://127.0.0.1:8080`.
using System.Runtime.CompilerServices;
using Chat;
using Microsoft.AspNetCore.SignalR;

WebApplicationBuilder builder = WebApplication.CreateBuilder(args);
builder.WebHost.UseWeir();
builder.Services.AddSignalR();
builder.Services.AddRazorPages();
builder.Services.AddSingleton<Room>();

WebApplication app = builder.Build();
app.UseDefaultFiles();
app.UseStaticFiles();
app.MapRazorPages();
app.MapHub<ChatHub>("/chat");
app.MapGet("/api/messages", static (Room room) => room.Messages);
app.MapPost("/api/messages", static async (Room room, IHubContext<ChatHub> hub, Message message) =>
{
    room.Add(message);
    await hub.Clients.All.SendAsync("said", message);
    return Results.Created("/api/messages", message);
});
app.MapPost("/api/upload", static async (HttpRequest request) =>
{
    IFormFile file = (await request.ReadFormAsync()).Files[0];
    return Results.Ok(new { file.FileName, file.Length });
});
app.MapGet("/api/clock", static (CancellationToken stop) => TypedResults.ServerSentEvents(TicksAsync(stop)));
app.Run();

static async IAsyncEnumerable<string> TicksAsync([EnumeratorCancellation] CancellationToken stop)
{
    while (!stop.IsCancellationRequested)
    {
        yield return DateTimeOffset.UtcNow.ToString("O");
        await Task.Delay(1000, stop);
    }
}

namespace Chat
{
    /// <summary>Something that somebody said.</summary>
    public sealed record Message(string Name, string Text);

    /// <summary>What was said, the last hundred.</summary>
    public sealed class Room
    {
        private readonly Lock _gate = new();
        private readonly Queue<Message> _messages = new();

        public Message[] Messages
        {
            get
            {
                lock (_gate)
                {
                    return [.. _messages];
                }
            }
        }

        public void Add(Message message)
        {
            lock (_gate)
            {
                _messages.Enqueue(message);
                if (_messages.Count > 100)
                {
                    _messages.Dequeue();
                }
            }
        }
    }

    /// <summary>Tells everybody what one says.</summary>
    public sealed class ChatHub(Room room) : Hub
    {
        public async Task Say(string name, string text)
        {
            var message = new Message(name, text);
            room.Add(message);
            await Clients.All.SendAsync("said", message);
        }
    }
}
