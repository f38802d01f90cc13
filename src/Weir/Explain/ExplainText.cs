// An explanation as text for people and as JSON for programs. Pure.
using System.Buffers;
using System.Text;
using System.Text.Encodings.Web;
using System.Text.Json;

namespace Weir.Explain;

internal static class ExplainText
{
    private const int KindColumns = 12;

    private static readonly JsonWriterOptions _json = new()
    {
        Encoder = JavaScriptEncoder.UnsafeRelaxedJsonEscaping,
        Indented = true,
    };

    public static string ForPeople(ExplainReport report)
    {
        var text = new StringBuilder();
        text.Append(report.RequestLine).Append("   Host: ").Append(report.Host).Append("\n\n");
        foreach (ExplainStep step in report.Steps)
        {
            Step(text, step);
        }
        foreach (ExplainUpstream upstream in report.Upstreams)
        {
            Step(text, new ExplainStep("upstream", upstream.Address, upstream.Where,
                upstream.Group.Length > 0 && upstream.Group != upstream.Address
                    ? $"of {upstream.Group}" : "", 0));
            if (upstream.Line.Length > 0)
            {
                Line(text, upstream.Line);
            }
            foreach (string field in upstream.Fields)
            {
                Line(text, field);
            }
        }
        text.Append('\n');
        if (report.IsOpen)
        {
            text.Append("What follows is for the upstream server to say.\n");
        }
        else
        {
            text.Append(report.Status == 0 ? "The connection is closed without an answer.\n"
                : $"{report.Status}, {report.BodyBytes} bytes behind the head\n");
        }
        foreach (ExplainField field in report.Fields)
        {
            text.Append("  ").Append(field.Name).Append(": ").Append(field.Value);
            if (field.Where is not null)
            {
                text.Append("    <- ").Append(field.Directive).Append("  ").Append(field.Where);
            }
            text.Append('\n');
        }
        foreach (ExplainStep missing in report.Missing)
        {
            text.Append("  (").Append(missing.Text).Append(")  ").Append(missing.Where).Append("\n      ")
                .Append(missing.Outcome).Append('\n');
        }
        foreach ((string name, string? value) in report.Variables)
        {
            text.Append('$').Append(name).Append(value is null ? " has no value" : $" = \"{value}\"").Append('\n');
        }
        foreach (string line in report.Log)
        {
            text.Append("log: ").Append(line).Append('\n');
        }
        return text.ToString();
    }

    private static void Step(StringBuilder text, ExplainStep step)
    {
        text.Append(' ', step.Depth * 2).Append(step.Kind.PadRight(KindColumns)).Append(step.Text);
        if (step.Where is not null)
        {
            text.Append("    ").Append(step.Where);
        }
        text.Append('\n');
        if (step.Outcome.Length > 0)
        {
            text.Append(' ', step.Depth * 2 + KindColumns).Append("-> ").Append(step.Outcome).Append('\n');
        }
    }

    private static void Line(StringBuilder text, string line) =>
        text.Append(' ', KindColumns).Append("   ").Append(line).Append('\n');

    public static string ForPrograms(ExplainReport report)
    {
        var buffer = new ArrayBufferWriter<byte>();
        using (var json = new Utf8JsonWriter(buffer, _json))
        {
            json.WriteStartObject();
            json.WriteString("request", report.RequestLine);
            json.WriteString("host", report.Host);
            Steps(json, "steps", report.Steps);
            json.WriteStartArray("upstreams");
            foreach (ExplainUpstream upstream in report.Upstreams)
            {
                json.WriteStartObject();
                json.WriteString("address", upstream.Address);
                json.WriteString("group", upstream.Group);
                json.WriteString("at", upstream.Where);
                json.WriteString("request", upstream.Line);
                json.WriteStartArray("fields");
                foreach (string field in upstream.Fields)
                {
                    json.WriteStringValue(field);
                }
                json.WriteEndArray();
                json.WriteEndObject();
            }
            json.WriteEndArray();
            json.WriteBoolean("answer_known", !report.IsOpen);
            json.WriteNumber("status", report.Status);
            json.WriteStartArray("fields");
            foreach (ExplainField field in report.Fields)
            {
                json.WriteStartObject();
                json.WriteString("name", field.Name);
                json.WriteString("value", field.Value);
                json.WriteString("directive", field.Directive);
                json.WriteString("at", field.Where);
                json.WriteEndObject();
            }
            json.WriteEndArray();
            Steps(json, "not_added", report.Missing);
            json.WriteStartObject("variables");
            foreach ((string name, string? value) in report.Variables)
            {
                json.WriteString(name, value);
            }
            json.WriteEndObject();
            json.WriteStartArray("log");
            foreach (string line in report.Log)
            {
                json.WriteStringValue(line);
            }
            json.WriteEndArray();
            json.WriteEndObject();
        }
        return Encoding.UTF8.GetString(buffer.WrittenSpan) + "\n";
    }

    private static void Steps(Utf8JsonWriter json, string name, List<ExplainStep> steps)
    {
        json.WriteStartArray(name);
        foreach (ExplainStep step in steps)
        {
            json.WriteStartObject();
            json.WriteString("kind", step.Kind);
            json.WriteString("text", step.Text);
            json.WriteString("at", step.Where);
            json.WriteString("outcome", step.Outcome);
            json.WriteNumber("depth", step.Depth);
            json.WriteEndObject();
        }
        json.WriteEndArray();
    }
}
