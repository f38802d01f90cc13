// A relay that passes what clients send one byte at a time, so that a server sees every boundary there is.
using System.Net;
using System.Net.Sockets;

namespace Weir.Tests.AppServer;

internal sealed class TrickleProxy : IDisposable
{
    private readonly Socket _listener = new(AddressFamily.InterNetwork, SocketType.Stream, ProtocolType.Tcp);
    private readonly int _target;
    private Socket? _client;
    private Socket? _server;

    internal TrickleProxy(int target)
    {
        _target = target;
        _listener.Bind(new IPEndPoint(IPAddress.Loopback, 0));
        _listener.Listen(1);
        new Thread(Run) { IsBackground = true }.Start();
    }

    internal int Port => ((IPEndPoint)_listener.LocalEndPoint!).Port;

    private void Run()
    {
        try
        {
            _client = _listener.Accept();
            _server = new Socket(AddressFamily.InterNetwork, SocketType.Stream, ProtocolType.Tcp) { NoDelay = true };
            _server.Connect(IPAddress.Loopback, _target);
            new Thread(() => Pass(_server, _client, 64 * 1024)) { IsBackground = true }.Start();
            Pass(_client, _server, 1);
        }
        catch (SocketException)
        {
            // The test is over.
        }
    }

    private static void Pass(Socket from, Socket to, int atOnce)
    {
        byte[] buffer = new byte[64 * 1024];
        try
        {
            int count;
            while ((count = from.Receive(buffer)) > 0)
            {
                for (int at = 0; at < count; at += atOnce)
                {
                    to.Send(buffer, at, Math.Min(atOnce, count - at), SocketFlags.None);
                }
            }
            to.Shutdown(SocketShutdown.Send);
        }
        catch (Exception e) when (e is SocketException or ObjectDisposedException)
        {
            // Either end has gone.
        }
    }

    public void Dispose()
    {
        _listener.Dispose();
        _client?.Dispose();
        _server?.Dispose();
    }
}
