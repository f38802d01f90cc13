// The configuration of the fixture server: one word and its value on each line, read into a master's plan.
using System.Text;
using Weir.Kernel;
using Weir.Process;

namespace Weir.Tests.ProcessFixture;

/// <summary>Reads the words of the configuration file.</summary>
internal sealed class EchoMaster(string path) : IMasterProgram
{
    public MasterPlan? Load(Log log)
    {
        var words = new Dictionary<string, string>();
        var listens = new List<ListenSpec>();
        foreach (string line in File.ReadAllLines(path))
        {
            string[] pair = line.Split(' ', 2);
            if (pair[0] == "listen")
            {
                string[] parts = pair[1].Split(' ');
                listens.Add(new ListenSpec
                {
                    Address = SocketAddress.Parse(parts[0]),
                    ReusePort = parts.Contains("reuseport"),
                });
            }
            else if (pair[0] == "broken")
            {
                log.Write(LogLevel.Emerg, "the configuration is broken");
                return null;
            }
            else if (line.Length > 0)
            {
                words[pair[0]] = pair.Length > 1 ? pair[1] : "";
            }
        }
        string logs = words["logs"];
        return new MasterPlan
        {
            PidPath = words["pid"],
            Daemon = words.GetValueOrDefault("daemon") == "on",
            MasterProcess = words.GetValueOrDefault("master_process") != "off",
            ClassicKey = words.GetValueOrDefault("classic", ""),
            Environment = ["FIXTURE=" + words.GetValueOrDefault("env", "")],
            Secrets = [new SecretContent(new SecretSpec("key"), Encoding.UTF8.GetBytes("secret"))],
            Snapshot = new Snapshot
            {
                ConfPath = path,
                Prefix = "/",
                Files = Encoding.UTF8.GetBytes(words.GetValueOrDefault("answer", "")),
                Listens = listens,
                Logs = [new LogSpec(logs + "/access.log")],
                ErrorLogs = [new ErrorLogSpec(LogLevel.Notice, new LogSpec(logs + "/error.log"))],
                Zones = [new ZoneSpec("echo:one", 64 * 1024, 1)],
                Settings = new ProcessSettings
                {
                    WorkerCount = int.Parse(words.GetValueOrDefault("workers", "1")),
                },
            },
        };
    }
}
